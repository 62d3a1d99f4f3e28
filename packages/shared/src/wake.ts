/** The part of a supabase-js client that carries broadcasts. */
export interface BroadcastClient {
  channel(topic: string, options: { config: { private: boolean } }): BroadcastChannel
  removeChannel(channel: BroadcastChannel): Promise<unknown>
}

interface BroadcastChannel {
  on(type: 'broadcast', filter: { event: string }, callback: () => void): BroadcastChannel
  subscribe(callback?: (status: string) => void): BroadcastChannel
}

/**
 * Calls `onWake` whenever the database says there is work (topic of `…_wake.sql`), and once when the
 * channel opens: what was said before the subscription is not repeated. Returns how to stop.
 */
export function listenForWork(client: BroadcastClient, onWake: () => unknown): () => Promise<void> {
  const channel = client
    .channel('nightshift:wake', { config: { private: true } })
    .on('broadcast', { event: 'wake' }, () => void onWake())
    .subscribe((status) => {
      if (status === 'SUBSCRIBED') void onWake()
    })
  return async () => {
    await client.removeChannel(channel)
  }
}
