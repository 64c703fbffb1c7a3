//go:build race

package simulation

// Under the race detector worlds are short. What writes the client's pointer to its media client
// while downloads read it is left out: the pointer is whatsmeow's, and has no lock.
const (
	testSteps   = 40
	testWithout = "op:reregister,op:media-client,op:restart,op:kill,op:forget"
)
