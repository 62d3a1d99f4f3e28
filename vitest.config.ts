import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{packages,apps,functions,scripts,supabase}/**/*.test.ts'],
    exclude: ['**/node_modules/**'],
    globalSetup: ['./scripts/vitest-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    sequence: { shuffle: { files: true } },
  },
})
