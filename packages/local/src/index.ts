/** An embedded Supabase for development and tests: any project, no Docker, no account. */

export { bootstrapDatabase } from './bootstrap.ts'
export type { Faults } from './faults.ts'
export type { Limits } from './functions/limits.ts'
export type { KeptPostgres } from './keep.ts'
export { type Keys, signToken, verifyToken } from './keys.ts'
export { applyMigrations } from './migrate.ts'
export { HomeInUseError } from './owner.ts'
export { freePort, type PostgresServer, startPostgres } from './postgres.ts'
export { type PracticeServer, startPractice } from './practice/server.ts'
export { type Stack, type StackOptions, type StackUrls, startStack } from './stack.ts'
