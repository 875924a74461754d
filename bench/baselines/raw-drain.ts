import type { Db } from 'mongodb'
import type { RouteHandlerMethod } from 'fastify'

/** The limit of reading from Rocket.Chat's database: the same cursors and count, without processing the bytes. */
export function rawDrain (db: Db): RouteHandlerMethod {
  const data = db.collection('rocketchat_import_data')

  async function read (filter: object, fields: readonly string[]): Promise<number> {
    const projection = { _id: 0, ...Object.fromEntries(fields.map(field => [`data.${field}`, 1])) }
    const cursor = data.find(filter, { projection, batchSize: 2000, raw: true })
    let count = 0
    while (await cursor.hasNext()) count += cursor.readBufferedDocuments().length
    return count
  }

  return async () => {
    await db.collection('rocketchat_import').findOne({}, { sort: { ts: -1 } })
    const counts = await Promise.all([
      read({ dataType: 'user' }, ['importIds', 'username', 'emails', 'deleted', 'type']),
      read({ dataType: 'channel', 'data.t': { $ne: 'd' } }, ['importIds', 'name', 't', 'archived']),
      read({ dataType: 'contact' }, ['importIds', 'name', 'emails', 'phones']),
      data.findOne({ dataType: 'channel', 'data.t': 'd' }, { projection: { 'data.t': 1 } }),
      data.countDocuments({ dataType: 'message' })
    ])
    return { counts }
  }
}
