/** Not etcd's own 2379 and 2380, which may be in use on a host; 7947 is gossip's. */
export const CLIENT_PORT = 7948;
export const PEER_PORT = 7949;
