import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

/**
 * Milliseconds that nothing may go over a connection while the server closes: longer than a query of the database may take. Node.js
 * notices up to twice as late that a client has stopped reading. That is still before systemd or Docker kills the process.
 */
const IDLE_TIMEOUT = 45_000

/**
 * Has the server close without waiting for clients that send or read nothing. Replies in progress are completed.
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
  // Node.js itself waits forever for a request that was not sent completely, or not begun. And it would cut a reply of which only the
  // rest is still to be read: it takes such a connection for idle.
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
