/** Loads a peer from the node_modules beside this file; fails where it is not installed. */
export function loadPeer(name: string) {
  return import(name)
}
