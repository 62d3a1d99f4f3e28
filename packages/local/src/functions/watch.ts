import { type FSWatcher, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

/**
 * Calls `onChange` when one of the files is written, replaced or removed; also when one has
 * changed since `since`. Watches directories, because editors replace files. Returns a function
 * that ends the watch.
 */
export function watchFiles(files: string[], since: Date, onChange: () => void): () => void {
  const names = new Map<string, Set<string>>()
  for (const file of files) {
    const directory = dirname(file)
    names.set(directory, (names.get(directory) ?? new Set<string>()).add(basename(file)))
  }
  const watchers = [...names].flatMap(([directory, wanted]) =>
    watchDirectory(directory, (name) => {
      if (name === null || wanted.has(name)) onChange()
    }),
  )
  if (files.some((file) => changedAt(file) > since.getTime())) onChange()
  return () => {
    for (const watcher of watchers) watcher.close()
  }
}

/** A directory that is gone counts as changed. */
function watchDirectory(directory: string, onEvent: (name: string | null) => void): FSWatcher[] {
  try {
    const watcher = watch(directory, { persistent: false }, (_event, name) => onEvent(name))
    return [watcher.on('error', () => onEvent(null))]
  } catch {
    onEvent(null)
    return []
  }
}

function changedAt(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY
}
