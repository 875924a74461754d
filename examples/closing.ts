import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

/**
 * Milliseconds without traffic after which a connection is closed while the server closes: longer than a query of the database may take.
 * For a client that has stopped reading, Node.js takes up to twice as long. That is still before systemd or Docker kills the process.
 */
const IDLE_TIMEOUT = 45_000

/**
 * Makes the server close without waiting for clients that send or read nothing. Replies in progress are completed.
 *
 * @param idleTimeout for tests
 */
export function limitClosing (app: FastifyInstance, idleTimeout = IDLE_TIMEOUT): void {
  const { server } = app
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  // Node.js itself waits forever for a request that was not sent, or not sent completely. And it would cut a reply that is written but not
  // yet read: it treats such a connection as idle.
  server.closeIdleConnections = () => {}
  app.addHook('preClose', async () => {
    // For connections whose reply ends from now on. 0 would be no limit.
    server.keepAliveTimeout = 1
    server.setTimeout(idleTimeout)
    for (const socket of sockets) {
      if (isAnswering(socket)) socket.setTimeout(idleTimeout)
      else socket.destroy()
    }
  })
}

/** Whether a reply is in progress on a connection to an HTTP server, or a WebSocket. */
export function isAnswering (socket: Socket): boolean {
  return '_httpMessage' in socket && Boolean(socket._httpMessage)
}
