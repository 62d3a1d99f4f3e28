/** Outlines on a 24 by 24 grid, drawn with the colour of the text around them. */
const outlines = {
  alert: 'M12 4 2.8 20h18.4L12 4Zm0 6v4.5m0 2.7v.1',
  back: 'M19 12H5m6-6-6 6 6 6',
  branch: 'M6 4v9a4 4 0 0 0 4 4h8m0 0-3.5-3.5M18 17l-3.5 3.5M6 8h12',
  calendar: 'M5 6h14v14H5zM5 10.5h14M9 3.5V8m6-4.5V8',
  check: 'm4.5 12.5 5 5 10-11',
  clock: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM12 8v4.5l3 2',
  cross: 'm6 6 12 12M18 6 6 18',
  gauge: 'M4 17a8.5 8.5 0 1 1 16 0m-8-1.5 4-5.5',
  hand: 'M8 12V6.2a1.6 1.6 0 0 1 3.2 0V11m0-.5V4.9a1.6 1.6 0 0 1 3.2 0V11m0-3.6a1.6 1.6 0 0 1 3.2 0V14a6.5 6.5 0 0 1-12 3.5l-2.6-4.2a1.6 1.6 0 0 1 2.7-1.7L8 14',
  inbox: 'M4 13.5 6.5 5h11l2.5 8.5V19H4v-5.5Zm0 0h5l1 2.5h4l1-2.5h5',
  list: 'M9 6h11M9 12h11M9 18h11M4.5 6h.1m-.1 6h.1m-.1 6h.1',
  lock: 'M6 11h12v9H6zM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z',
  octagon: 'M8.5 3.5h7l5 5v7l-5 5h-7l-5-5v-7l5-5ZM12 8v5m0 3v.1',
  person: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-7.5 8.5a7.5 7.5 0 0 1 15 0',
  plus: 'M12 5v14M5 12h14',
  question:
    'M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4m0 3v.1M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17Z',
  running: 'M12 3.5a8.5 8.5 0 1 1-8.5 8.5',
  shield: 'M12 3.5 5 6v6c0 4.2 3 7 7 8.5 4-1.5 7-4.3 7-8.5V6l-7-2.5Zm-3 8.2 2.2 2.3 3.8-4.3',
  signout: 'M14 5H5v14h9m-3-7h10m-3.5-3.5L21 12l-3.5 3.5',
  slash: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM6 18 18 6',
  spark: 'M12 3.5 13.8 10l6.7 2-6.7 2L12 20.5 10.2 14l-6.7-2 6.7-2L12 3.5Z',
  tool: 'M14.5 6.5a4 4 0 0 1 5-1l-2.6 2.6 1.5 1.5L21 7a4 4 0 0 1-5.5 5L8 19.5a2 2 0 0 1-3-3l7.5-7.5a4 4 0 0 1 2-2.5Z',
} as const

export type IconName = keyof typeof outlines

/** A picture beside a word; never instead of one. */
export function Icon({ name, className = 'size-5' }: { name: IconName; className?: string }) {
  return (
    <svg
      aria-hidden="true"
      viewBox="0 0 24 24"
      className={`shrink-0 ${className}`}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.75"
      strokeLinecap="round"
      strokeLinejoin="round"
    >
      <path d={outlines[name]} />
    </svg>
  )
}
