#!/usr/bin/env node
process.argv.splice(2, 0, 'nightshift')
await import('../../../scripts/run.mjs')
