import { deepStrictEqual } from 'node:assert'
import { BSON } from 'mongodb'
import fc from 'fast-check'
import t from 'tap'
import { fieldReader } from '../lib/rocketchat/bson-reader.js'

const FIELDS = ['importIds', 'username', 'emails', 'deleted', 'type', 't']
const read = fieldReader('data', FIELDS)

/** What the driver's own decoding gives, down to what the reader promises. */
function decode (bson: Uint8Array): Record<string, unknown> {
  const { data } = BSON.deserialize(bson)
  const isDocument = typeof data === 'object' && data !== null && data._bsontype === undefined && !Array.isArray(data)
  return Object.fromEntries(FIELDS.map(field => [field, isDocument && Object.hasOwn(data, field) ? reduce(data[field]) : undefined]))
}

function reduce (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reduce)
  return typeof value === 'object' && value !== null ? {} : value
}

const anything = fc.letrec(any => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.string({ unit: 'binary' }),
    fc.boolean(),
    fc.constant(null),
    fc.integer(),
    fc.double(),
    fc.maxSafeInteger().map(number => BSON.Long.fromNumber(number)),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(number => BSON.Long.fromBigInt(number)),
    fc.date({ noInvalidDate: true }),
    fc.constantFrom(
      new BSON.ObjectId('0123456789abcdef01234567'),
      new BSON.Binary(Buffer.from([0, 1, 2, 0])),
      new BSON.UUID(),
      new BSON.BSONRegExp('a.b', 'i'),
      new BSON.Timestamp(1n),
      BSON.Decimal128.fromString('1.5'),
      new BSON.Code('f()'),
      new BSON.Code('f()', { scope: 'é' }),
      new BSON.BSONSymbol('symbol'),
      new BSON.MinKey(),
      new BSON.MaxKey()
    ),
    fc.array(any('value'), { maxLength: 4 }),
    any('document')
  ),
  document: fc.dictionary(fc.oneof(fc.constantFrom(...FIELDS, 'data', 'names', '__proto__'), fc.string()
    .map(name => name.replaceAll('\0', ''))), any('value'), { maxKeys: 6 })
}))

t.test('any field of any document has the value that the driver decodes', async t => {
  const staged = fc.tuple(anything.document, anything.value, anything.document).map(([before, data, after]) =>
    Object.fromEntries([...Object.entries(before), ['data', data], ...Object.entries(after)]))
  t.doesNotThrow(() => fc.assert(fc.property(staged, document => {
    const bson = BSON.serialize(document)
    deepStrictEqual(read(Buffer.from(bson)), decode(bson))
  }), { numRuns: 2000 }))
})

t.test('the kinds of value that the library no longer writes are passed over, too', async t => {
  const bson = withElements(
    [0x06, 'type', []], // undefined
    [0x0c, 'emails', [2, 0, 0, 0, 0x61, 0, ...Array<number>(12).fill(7)]], // DBPointer
    [0x02, 'username', [3, 0, 0, 0, 0x69, 0x74, 0]]
  )
  t.strictSame(read(bson), { ...read(withElements()), emails: {}, username: 'it' })
})

t.test('a document without the embedded one has no field', async t => {
  t.strictSame(Object.values(read(Buffer.from(BSON.serialize({ username: 'outside', data: 'text' })))), FIELDS.map(() => undefined))
})

t.test('a record that is cut off is refused', async t => {
  const whole = Buffer.from(BSON.serialize({ data: { importIds: ['U1'], username: 'somebody', type: 'user' } }))
  for (let length = 0; length < 30; length++) t.throws(() => read(whole.subarray(0, length)), RangeError, `${length} bytes`)
})

t.test('a value of a negative length is refused, and not gone through for ever', async t => {
  for (const kind of [0x02, 0x04]) {
    t.throws(() => read(withElements([kind, 'type', [0xf9, 0xff, 0xff, 0xff, 0]])), { name: 'RangeError' }, String(kind))
  }
})

t.test('a kind of value that is not known is refused', async t => {
  t.throws(() => read(withElements([0x55, 'type', []])), { name: 'RangeError', message: /unknown kind 85/ })
})

/** A document with an embedded `data`, written by hand: kind, name and bytes of each of its elements. */
function withElements (...elements: Array<[kind: number, name: string, bytes: number[]]>): Buffer {
  const data = document(Buffer.concat(elements.map(([kind, name, bytes]) => element(kind, name, Buffer.from(bytes)))))
  return document(element(0x03, 'data', data))
}

function element (kind: number, name: string, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([kind]), Buffer.from(`${name}\0`), value])
}

function document (elements: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32LE(elements.length + 5)
  return Buffer.concat([length, elements, Buffer.from([0])])
}
