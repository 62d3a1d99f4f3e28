import { useSyncExternalStore } from 'react'

/** Which tasks the list shows. */
export const shows = ['all', 'active', 'waiting', 'failed'] as const
export type Show = (typeof shows)[number]

/** Everything the URL can say. */
export type View =
  | { name: 'inbox'; card: number | null }
  | { name: 'tasks'; task: number | null; show: Show }
  | { name: 'new-task' }
  | { name: 'audit' }

/** The view of a path and query; whatever is unknown is the inbox. */
export function parseView(pathname: string, search = ''): View {
  const [area, item] = pathname.split('/').filter(Boolean)
  if (area === 'audit') return { name: 'audit' }
  if (area === 'tasks' && item === 'new') return { name: 'new-task' }
  if (area === 'tasks') {
    const wanted = new URLSearchParams(search).get('show')
    const show = shows.find((name) => name === wanted) ?? 'all'
    return { name: 'tasks', task: idOf(item), show }
  }
  return { name: 'inbox', card: area === 'cards' ? idOf(item) : null }
}

/** The address of a view: `parseView` of it is the view again. */
export function hrefOf(view: View): string {
  switch (view.name) {
    case 'inbox':
      return view.card === null ? '/inbox' : `/cards/${view.card}`
    case 'tasks': {
      const path = view.task === null ? '/tasks' : `/tasks/${view.task}`
      return view.show === 'all' ? path : `${path}?show=${view.show}`
    }
    case 'new-task':
      return '/tasks/new'
    case 'audit':
      return '/audit'
  }
}

/** Goes to a view; `replace` leaves no entry in the history. */
export function go(view: View, options: { replace?: boolean } = {}): void {
  const href = hrefOf(view)
  if (options.replace) history.replaceState(null, '', href)
  else history.pushState(null, '', href)
  window.dispatchEvent(new PopStateEvent('popstate'))
}

/** Path and query of the page now. */
export function useAddress(): string {
  return useSyncExternalStore(
    (changed) => {
      window.addEventListener('popstate', changed)
      return () => window.removeEventListener('popstate', changed)
    },
    () => `${location.pathname}${location.search}`,
  )
}

/** The view the URL shows now. */
export function useView(): View {
  const { pathname, search } = new URL(useAddress(), location.origin)
  return parseView(pathname, search)
}

function idOf(text: string | undefined): number | null {
  return text && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : null
}
