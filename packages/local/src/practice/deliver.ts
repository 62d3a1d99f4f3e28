import type { ServerResponse } from 'node:http'
import { setTimeout as delay, setImmediate as turnOfLoop } from 'node:timers/promises'
import type { ServerSentEvent } from './dialect.ts'
import type { Fault } from './rules.ts'

/** A response in all the forms a fault may need. */
export interface Delivery {
  whole(): unknown
  /** Null where the caller did not ask for a stream. */
  events: (() => ServerSentEvent[]) | null
  /** The provider's body for an error status. */
  errorBody(status: number): unknown
  errorEvent(body: unknown): ServerSentEvent
  /** True if the message itself is to be broken JSON. */
  spoilt: boolean
}

/** Writes a response, or what the fault makes of it. Resolves when all is written or the caller has gone. */
export async function deliver(
  response: ServerResponse,
  delivery: Delivery,
  fault: Fault,
): Promise<void> {
  if (!(await wait(response, fault.delay_ms))) return
  for (const [name, value] of Object.entries(fault.headers ?? {})) response.setHeader(name, value)
  const cut = fault.cut_after_chunks !== undefined
  if (fault.reset === true && !cut) {
    response.destroy()
  } else if (fault.hang === true && !cut) {
    // Nothing is written: the request stays open until the caller or the server gives up.
  } else if (fault.status !== undefined && fault.status >= 400) {
    writeWhole(response, fault.status, fault.body ?? delivery.errorBody(fault.status))
  } else if (fault.body !== undefined && !cut) {
    writeWhole(response, fault.status ?? 200, fault.body)
  } else if (delivery.events === null) {
    writeMessage(response, delivery, fault)
  } else {
    await writeStream(response, delivery.events(), { delivery, fault })
  }
}

/** False if the caller left while waiting. */
async function wait(response: ServerResponse, milliseconds = 0): Promise<boolean> {
  if (milliseconds === 0) return true
  const gone = new AbortController()
  const leave = () => gone.abort()
  response.once('close', leave)
  await delay(milliseconds, undefined, { signal: gone.signal }).catch(() => undefined)
  response.off('close', leave)
  return !response.destroyed
}

function writeWhole(response: ServerResponse, status: number, body: unknown): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  if (!response.hasHeader('content-type')) {
    const looksLikeMarkup = text.trimStart().startsWith('<')
    response.setHeader('content-type', looksLikeMarkup ? 'text/html' : 'application/json')
  }
  response.statusCode = status
  response.end(text)
}

function writeMessage(response: ServerResponse, { whole, spoilt }: Delivery, fault: Fault): void {
  const text = JSON.stringify(whole())
  response.statusCode = fault.status ?? 200
  if (!response.hasHeader('content-type')) response.setHeader('content-type', 'application/json')
  if (fault.cut_after_chunks === undefined) {
    response.end(spoilt ? text.slice(0, text.length / 2) : text)
    return
  }
  // A message that is not streamed can only be cut by announcing more than is sent.
  response.setHeader('content-length', Buffer.byteLength(text))
  response.write(text.slice(0, text.length / 2), () => {
    if (fault.hang !== true) response.destroy()
  })
}

async function writeStream(
  response: ServerResponse,
  events: ServerSentEvent[],
  { delivery, fault }: { delivery: Delivery; fault: Fault },
): Promise<void> {
  response.statusCode = fault.status ?? 200
  if (!response.hasHeader('content-type'))
    response.setHeader('content-type', 'text/event-stream; charset=utf-8')
  response.setHeader('cache-control', 'no-cache')
  response.flushHeaders()
  const limit = fault.cut_after_chunks ?? events.length
  const broken = delivery.spoilt ? Math.min(2, limit - 1) : -1
  for (const [index, event] of events.slice(0, limit).entries()) {
    if (response.destroyed) return
    const sent =
      index === broken ? { ...event, data: event.data.slice(0, event.data.length / 2) } : event
    if (!response.write(frameOf(sent))) await drained(response)
    // One turn of the loop between events, so that they reach the caller as separate reads.
    await turnOfLoop()
  }
  if (fault.body !== undefined) response.write(frameOf(delivery.errorEvent(fault.body)))
  if (fault.cut_after_chunks !== undefined && fault.hang === true) return
  if (fault.cut_after_chunks !== undefined && fault.reset === true) response.destroy()
  else response.end()
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      response.off('drain', settle).off('close', settle)
      resolve()
    }
    response.on('drain', settle).on('close', settle)
  })
}

function frameOf({ event, data }: ServerSentEvent): string {
  return `${event === undefined ? '' : `event: ${event}\n`}data: ${data}\n\n`
}
