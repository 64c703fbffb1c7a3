package simulation

import "time"

// An operation is something that a bot or people do at a step.
type operation struct {
	kind        Kind
	short, long int // how often, in the two kinds of worlds
	do          func(b *bot, t *Throw)
}

// operations are all operations. They are set in init, as they refer to each other.
var operations []operation

func init() {
	operations = []operation{
		{"op:receive", 30, 40, (*bot).opReceive},
		{"op:forward", 6, 6, (*bot).opForward},
		{"op:quote", 4, 4, (*bot).opQuote},
		{"op:edit", 2, 2, (*bot).opEdit},
		{"op:history", 3, 3, (*bot).opHistory},
		{"op:table", 3, 3, (*bot).opTable},
		{"op:text", 6, 2, (*bot).opText},
		{"op:old", 6, 6, (*bot).opOld},
		{"op:revisit", 40, 60, (*bot).opRevisit},
		{"op:many", 12, 4, (*bot).opMany},
		{"op:same", 3, 2, (*bot).opSame},
		{"op:request", 5, 3, (*bot).opRequest},
		{"op:request-all", 2, 1, (*bot).opRequestAll},
		{"op:invalid", 1, 1, (*bot).opInvalid},
		{"op:restart", 2, 3, (*bot).opRestart},
		{"op:kill", 2, 2, (*bot).opKill},
		{"op:forget", 1, 1, (*bot).opForget},
		{"op:reregister", 2, 1, (*bot).opReregister},
		{"op:media-client", 2, 1, (*bot).opMediaClient},
		{"op:migrate", 1, 1, (*bot).opMigrate},
		{"op:send", 2, 1, (*bot).opSend},
		{"op:wait", 6, 2, (*bot).opWait},

		{"stranger:hash", 8, 8, (*bot).strangerHash},
		{"stranger:flood", 3, 2, (*bot).strangerFlood},
		{"stranger:cards", 3, 2, (*bot).strangerCards},
		{"stranger:id", 4, 4, (*bot).strangerID},
		{"stranger:quotes", 4, 4, (*bot).strangerQuotes},
		{"stranger:edits", 3, 3, (*bot).strangerEdits},
		{"stranger:invents", 4, 4, (*bot).strangerInvents},

		{netCut, 3, 3, (*bot).netCut},
		{netOffline, 2, 2, (*bot).netOffline},
		{netStall, 2, 1, (*bot).netStall},
		{netHalfOpen, 2, 0, (*bot).netHalfOpen},
		{netRefuse, 2, 1, (*bot).netRefuse},
		{netLatency, 2, 1, (*bot).netLatency},
	}
}

func operationOf(kind Kind) operation {
	for _, op := range operations {
		if op.kind == kind {
			return op
		}
	}
	panic("there is no operation " + kind)
}

// operations returns how often each operation happens in this world.
func (w *World) operations() (all []weighted[Kind]) {
	for _, op := range operations {
		weight := 10 * op.short
		if w.Long {
			weight = 10 * op.long
		}
		if len(op.kind) > 9 && op.kind[:9] == "stranger:" {
			weight = int(float64(weight) * 2 * w.Stranger)
		}
		if op.kind == netStall && !w.Unstable || op.kind == netHalfOpen && !w.HalfOpen {
			weight = 0
		}
		all = append(all, weighted[Kind]{op.kind, weight})
	}
	return all
}

// someone returns a person other than the stranger.
func (w *World) someone(t *Throw) *person { return w.people[1+t.IntN(len(w.people)-1)] }

// opWait lets files grow old.
func (b *bot) opWait(t *Throw) { time.Sleep(t.Between(b.Life/4, b.Life)) }
