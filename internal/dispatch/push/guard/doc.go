// Package guard keeps deliveries from reaching what only the operator's own machines should reach. Anybody who may
// subscribe chooses where the server connects to; without a guard that would be the server's own ports, its
// neighbours and the metadata service of its cloud.
//
//	endpoint ──► Endpoint: form of the URL ──► name ──► DNS ──► address ──► Guard.Control ──► connect
//	                                                                          │
//	                                                     the only check that counts: what is really dialled,
//	                                                     for each connection anew
//
// A check of the name alone would be worth nothing: what a name resolves to may change between check and connect. So
// the form of the URL is looked at only to refuse early what cannot be meant well, and everything else is decided on
// the address, by a hook between socket and connect.
//
// It is not a firewall for clients, and knows nothing of messages. Whoever delivers uses a Guard's Dialer and nothing else.
package guard
