/**
 * Realtime's wire format: Phoenix frames in two versions.
 *
 * 1.0.0 is an object `{topic, event, payload, ref, join_ref}` as JSON text; the server sends no
 * join_ref. 2.0.0 is an array `[join_ref, ref, topic, event, payload]` as JSON text, and broadcasts
 * may be binary: the kind, one byte per length, the strings, the payload. Measured against
 * realtime-js 2.119 and read from the server's V2 serializer.
 */

/** A JSON object of unknown shape. */
export type JsonObject = Record<string, unknown>

export type ProtocolVersion = '1.0.0' | '2.0.0'

/** What goes to every member of a channel. */
export type Broadcast =
  /** A text frame: the payload is passed on as the sender wrote it. */
  | { kind: 'text'; payload: JsonObject }
  /** An event with its body apart: JSON text or bytes, never parsed on the way. */
  | {
      kind: 'event'
      event: string
      encoding: 'json' | 'binary'
      body: Buffer
      meta?: { id: string }
    }

/** A frame from a client. `broadcast` is what it means if its event is `broadcast`. */
export interface ClientFrame {
  joinRef: string | null
  ref: string | null
  topic: string
  event: string
  payload: JsonObject
  broadcast: Broadcast
}

/** A frame to a client. */
export interface ServerFrame {
  joinRef: string | null
  ref: string | null
  topic: string
  event: string
  payload: JsonObject
}

const clientBroadcastKind = 3
const serverBroadcastKind = 4
const clientHeaderBytes = 7
const binaryEncoding = 0
const jsonEncoding = 1
const longestString = 255

/** The value when it is a JSON object, else an empty one. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/** Reads a frame; throws when it is none of the version. */
export function decodeFrame(
  version: ProtocolVersion,
  data: Buffer,
  isBinary: boolean,
): ClientFrame {
  if (isBinary) return decodeBinaryBroadcast(data)
  const value: unknown = JSON.parse(data.toString('utf8'))
  if (version === '1.0.0') {
    const frame = objectOf(value)
    return textFrame([frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload])
  }
  if (!Array.isArray(value)) throw new Error('frame of protocol "2.0.0" is no array')
  return textFrame(value)
}

/** A reply, push or close as text. */
export function encodeFrame(version: ProtocolVersion, frame: ServerFrame): string {
  const { joinRef, ref, topic, event, payload } = frame
  return version === '1.0.0'
    ? JSON.stringify({ topic, event, payload, ref })
    : JSON.stringify([joinRef, ref, topic, event, payload])
}

/**
 * A broadcast for the members of `topic` (with its `realtime:` prefix). Null when the version
 * cannot carry it: bytes in 1.0.0, names over 255 bytes in the binary header of 2.0.0.
 */
export function encodeBroadcast(
  version: ProtocolVersion,
  topic: string,
  broadcast: Broadcast,
): string | Buffer | null {
  if (broadcast.kind === 'text') {
    const { payload } = broadcast
    return encodeFrame(version, { joinRef: null, ref: null, topic, event: 'broadcast', payload })
  }
  const { event, encoding, body, meta } = broadcast
  if (version === '2.0.0') {
    const strings = [topic, event, meta ? JSON.stringify(meta) : ''].map((text) =>
      Buffer.from(text),
    )
    const lengths = strings.map((text) => text.length)
    if (lengths.some((length) => length > longestString)) return null
    const encodingByte = encoding === 'json' ? jsonEncoding : binaryEncoding
    return Buffer.concat([
      Buffer.from([serverBroadcastKind, ...lengths, encodingByte]),
      ...strings,
      body,
    ])
  }
  if (encoding === 'binary') return null
  // The body is JSON already: parsing it only to write it again could change its numbers.
  const fields = [
    '"type":"broadcast"',
    `"event":${JSON.stringify(event)}`,
    `"payload":${body.toString('utf8')}`,
    ...(meta ? [`"meta":${JSON.stringify(meta)}`] : []),
  ]
  return `{"topic":${JSON.stringify(topic)},"event":"broadcast","payload":{${fields.join(',')}},"ref":null}`
}

function textFrame([joinRef, ref, topic, event, payload]: unknown[]): ClientFrame {
  if (typeof topic !== 'string' || typeof event !== 'string') {
    throw new Error('frame has no topic or no event')
  }
  const object = objectOf(payload)
  return {
    joinRef: typeof joinRef === 'string' ? joinRef : null,
    ref: typeof ref === 'string' ? ref : null,
    topic,
    event,
    payload: object,
    broadcast: { kind: 'text', payload: object },
  }
}

function decodeBinaryBroadcast(data: Buffer): ClientFrame {
  if (data.length < clientHeaderBytes || data[0] !== clientBroadcastKind) {
    throw new Error(`binary frame of kind "${data[0]}" is no broadcast`)
  }
  let offset = clientHeaderBytes
  const next = (length: number): string => {
    const start = offset
    offset += length
    return data.toString('utf8', start, offset)
  }
  // Header bytes 1 to 5 are the lengths of these strings; the server uses no metadata yet.
  const [joinRef, ref, topic = '', event = ''] = [...data.subarray(1, 6)].map(next)
  const encoding = data[6] === binaryEncoding ? 'binary' : 'json'
  return {
    joinRef: joinRef || null,
    ref: ref || null,
    topic,
    event: 'broadcast',
    payload: {},
    broadcast: { kind: 'event', event, encoding, body: data.subarray(offset) },
  }
}
