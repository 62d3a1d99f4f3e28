import { PostgresConnection } from '@supabase/lite/postgres'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely'
import type { Lender, Loan, Parameter } from './lending.ts'

/** @supabase/lite's connection to Postgres, on connections that we lend it. */
export class LentConnection extends PostgresConnection {
  constructor(url: string, lender: Lender) {
    super({ url })
    // The driver's own pool stays empty.
    this.kysely = new Kysely({
      dialect: {
        createAdapter: () => new PostgresAdapter(),
        createDriver: () => new LentDriver(lender),
        createIntrospector: (database) => new PostgresIntrospector(database),
        createQueryCompiler: () => new PostgresQueryCompiler(),
      },
    })
  }
}

class LentDriver implements Driver {
  readonly #lender: Lender
  readonly #loans = new WeakMap<DatabaseConnection, Loan>()

  constructor(lender: Lender) {
    this.#lender = lender
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const loan = await this.#lender.lend()
    const connection = connectionOf(loan)
    this.#loans.set(connection, loan)
    return connection
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#loans.get(connection)?.release()
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin'))
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'))
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'))
  }

  async init(): Promise<void> {}

  async destroy(): Promise<void> {}
}

function connectionOf(loan: Loan): DatabaseConnection {
  return {
    async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
      const rows = await loan.query(
        sql,
        parameters.map((value) => value as Parameter),
      )
      const isWrite = /^(INSERT|UPDATE|DELETE|MERGE)$/.test(rows.command)
      const result = { rows: Array.from(rows, (row) => row as Row) }
      return isWrite ? { ...result, numAffectedRows: BigInt(rows.count) } : result
    },
    streamQuery() {
      throw new Error('Cannot stream: lite asks for whole results only')
    },
  }
}
