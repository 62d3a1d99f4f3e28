import postgres from 'postgres'
import { type PracticeServer, startPractice } from '../../../local/src/practice/server.ts'
import { freshDatabase, type TestDatabase } from '../../../local/src/testing.ts'
import { complete } from '../models/complete.ts'
import { type Database, openDatabase, type RpcClient } from '../rpc.ts'
import type { TickContext } from './tick.ts'

/** A database with one project, practice models, and the context a tick needs: for tests. */
export interface Harness {
  sql: postgres.Sql
  database: Database
  practice: PracticeServer
  project: string
  context: TickContext
  /** Creates an agent, returns its name. */
  agent(definition: Record<string, unknown>, name?: string): Promise<string>
  tool(name: string, definition: Record<string, unknown>): Promise<void>
  enqueue(agent: string, input?: unknown, more?: Record<string, unknown>): Promise<number>
  task(id: number): Promise<Record<string, unknown>>
  /** Answers the next calls of the practice models. */
  script(rules: unknown[]): Promise<void>
  stop(): Promise<void>
}

/** Starts it all on a private copy of the project's database. */
export async function startHarness(): Promise<Harness> {
  const fresh: TestDatabase = await freshDatabase()
  const sql = postgres(fresh.url, { max: 8, onnotice: () => {} })
  const practice = await startPractice({})
  const [created] = await sql`select nightshift.create_project('test') as id`
  const project = String(created?.id)
  const database = openDatabase(rpcOver(sql))
  return {
    sql,
    database,
    practice,
    project,
    context: {
      database,
      complete,
      access: {
        practice: {
          apiKey: 'practice',
          baseUrls: { anthropic: practice.url, openai: `${practice.url}/v1` },
        },
      },
      leaseSeconds: 90,
      firstByteMs: 2_000,
      idleMs: 2_000,
      now: Date.now,
      signal: new AbortController().signal,
    },
    agent: async (definition, name = 'worker') => {
      await sql`select nightshift.set_agent(${project}, ${name}, ${sql.json({ instructions: 'Work.', ...definition } as postgres.JSONValue)})`
      return name
    },
    tool: async (name, definition) => {
      await sql`select nightshift.set_tool(${project}, ${name}, ${sql.json({ description: name, ...definition } as postgres.JSONValue)})`
    },
    enqueue: async (agent, input = {}, more = {}) => {
      const request = { project, agent, input, ...more } as postgres.JSONValue
      const [row] = await sql`select id from nightshift.enqueue(${sql.json([request])})`
      return Number(row?.id)
    },
    task: async (id) => {
      const [row] = await sql`select * from nightshift.tasks where id = ${id}`
      return row ?? {}
    },
    script: async (rules) => {
      await fetch(`${practice.url}/_script`, { method: 'POST', body: JSON.stringify({ rules }) })
    },
    stop: async () => {
      await practice.stop()
      await sql.end()
      await fresh.drop()
    },
  }
}

/** The Data API's RPC without HTTP: named arguments, sets as arrays, errors with their code. */
export function rpcOver(sql: postgres.Sql): RpcClient {
  return {
    schema: () => ({
      rpc: async (name, args) => {
        const names = Object.keys(args)
        const list = names.map((arg, index) => `${arg} => $${index + 1}`).join(', ')
        const values = names.map((arg) => toParameter(args[arg]))
        try {
          const rows = await sql.unsafe(
            `select to_jsonb(r) as r, (select proretset from pg_proc where oid = 'nightshift.${name}'::regproc) as set
             from nightshift.${name}(${list}) r`,
            values,
          )
          const data = rows.map((row) => row.r)
          return { data: rows[0]?.set === false ? data[0] : data, error: null, status: 200 }
        } catch (error) {
          if (!(error instanceof postgres.PostgresError)) throw error
          return { data: null, error: { code: error.code, message: error.message }, status: 400 }
        }
      },
    }),
  }
}

function toParameter(value: unknown): postgres.ParameterOrJSON<never> {
  const isList = Array.isArray(value) && value.every((item) => typeof item === 'string')
  if (isList && value.length > 0) return value as string[]
  return typeof value === 'object' && value !== null ? (value as never) : (value as string)
}
