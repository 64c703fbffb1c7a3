// Package host is the only door to what whatsmeow keeps private. It knows nothing of the plugin.
//
// Whatever goes through it is checked for presence and type first, so that a whatsmeow that has
// changed costs a feature, which the result tells, and never a panic.
//
//	recvLog             the receive logger, which sees each node before it is queued: [Tap]
//	RawNodeHandler      a hook that forks have, which gets each node too: [Tap]
//	mediaHTTP           the media HTTP client, for which there is a setter only: [MediaClient], [Watch]
//	eventHandlers       the handlers, to put one in front, and to take it away without waiting: [Handlers]
//	eventHandlersLock   whatsmeow's own lock of these
//	socketLock          to see whether whatsmeow dials: [IsDialing]
//	call stacks         whether a call comes from an event handler: [InDispatch], [InHandlerQueue], [Unseen]
//
// Where whatsmeow has AddNodeObserver and MediaHTTPClient, these take the place of the first three.
//
// What whatsmeow exports under protest comes from [Internals]. A whatsmeow without one of its
// methods does not compile.
package host

import "go.mau.fi/whatsmeow"

// Internals opens what whatsmeow exports under protest: the node sender, the acks, the state of the
// connection.
func Internals(client *whatsmeow.Client) *whatsmeow.DangerousInternalClient {
	//lint:ignore SA1019 "dangerous" is what is deprecated; there is no other way to send a receipt and see its ack.
	return client.DangerousInternals()
}
