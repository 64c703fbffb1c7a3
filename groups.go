package reupload

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

const (
	// maxGroups is how many groups are kept in mind.
	maxGroups = 1024
	// groupPause is how long a group is not asked about again after the server has refused or was
	// silent, and for how long its list of members is taken to be complete.
	groupPause = 10 * time.Minute
	// modeLife is how long a group that goes by phone numbers is taken to do so still: it may have
	// gone over to LIDs.
	modeLife = time.Hour
	// wordLife is how long the server has "just said" something.
	wordLife = time.Minute
	// contradictionPause is how long a group is not asked about again that the server says goes by
	// phone numbers, though a message there has a LID.
	contradictionPause = time.Minute
)

// Groups is what the server has said of the groups that may be asked about: those that the account
// has received something in, and those that the bot names. Others can be an invention: anybody can
// quote a message of a group that is not there. The zero value is ready for use.
//
// The server is asked about one group at a time, and by one goroutine: others wait for its answer.
type groups struct {
	mu    sync.Mutex
	known map[types.JID]*group
	turn  chan struct{} // holds something while the server is asked; made with known
}

type group struct {
	mode         types.AddressingMode // what the server has said last; empty if it has said nothing
	said         time.Time            // when it has
	answers      int                  // how often it has
	contradicted time.Time            // when it has said "pn", asked because of a LID
	err          error                // what it has answered last in place of that
	failed       time.Time
}

// meet notes that a group may be asked about. Other chats are ignored.
func (g *groups) meet(chat types.JID) {
	if chat.Server != types.GroupServer {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known, g.turn = make(map[types.JID]*group), make(chan struct{}, 1)
	}
	if g.known[chat] != nil {
		return
	}
	for other := range g.known {
		if len(g.known) < maxGroups {
			break
		}
		delete(g.known, other) // any: it is met again with its next message
	}
	g.known[chat] = new(group)
}

// doubt notes that a message in a group goes by LIDs: what the server has said before, if it was
// that the group goes by phone numbers, is to be asked again, unless it was for that reason a
// moment ago.
func (g *groups) doubt(chat types.JID) {
	g.note(chat, func(known *group) {
		if time.Since(known.contradicted) >= contradictionPause {
			known.said = time.Time{}
		}
	})
}

// isDoubted reports whether a message by LIDs has come since the server has said anything.
func (g *group) isDoubted() bool { return g.answers > 0 && g.said.IsZero() }

// recall returns what the server has said of a group. It is not ok if that was never met.
func (g *groups) recall(chat types.JID) (said group, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.known[chat]; known != nil {
		return *known, true
	}
	return group{}, false
}

// errUnmet means that the server is not asked about a group that the account has never met.
var errUnmet = errors.New("nothing was received in the group")

// ask returns how a group addresses its members, as the server says it now or has said it if that
// is fresh, and the members if it was asked. The error is errUnmet, or why the server has not said
// it.
func (g *groups) ask(ctx context.Context, chat types.JID, isFresh func(group) bool, fetch func(context.Context, types.JID) (*types.GroupInfo, error)) (
	mode types.AddressingMode, members []types.GroupParticipant, err error,
) {
	if mode, done, err := g.answer(chat, isFresh); done {
		return mode, nil, err
	}
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
	if mode, done, err := g.answer(chat, isFresh); done { // another goroutine has asked meanwhile
		return mode, nil, err
	}
	info, err := fetch(ctx, chat)
	if err != nil {
		g.note(chat, func(known *group) {
			if isGroupsOwn(err) {
				known.err, known.failed = err, time.Now()
			}
		})
		return "", nil, err
	}
	g.note(chat, func(known *group) {
		known.mode, known.said, known.err = info.AddressingMode, time.Now(), nil
		known.answers++
	})
	return info.AddressingMode, info.Participants, nil
}

// answer returns what the server has said, if that is fresh. done is false if the server must be
// asked.
func (g *groups) answer(chat types.JID, isFresh func(group) bool) (mode types.AddressingMode, done bool, err error) {
	switch said, ok := g.recall(chat); {
	case !ok:
		return "", true, errUnmet
	case said.err != nil && time.Since(said.failed) < groupPause:
		return "", true, said.err
	case said.answers == 0 || !isFresh(said):
		return "", false, nil
	default:
		return said.mode, true, nil
	}
}

func (g *groups) note(chat types.JID, what func(*group)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.known[chat]; known != nil {
		what(known)
	}
}

// isGroupsOwn reports whether a query has failed for a reason that the next one will meet as well:
// the server has refused or is silent. An end of the connection is none.
func isGroupsOwn(err error) bool {
	var disconnected *whatsmeow.DisconnectedError
	return !errors.Is(err, context.Canceled) && !errors.Is(err, whatsmeow.ErrNotConnected) && !errors.As(err, &disconnected)
}

// isRefusal reports whether the server refuses to tell anything of a group, because the account is
// not in it. Then the plugin will not learn more than it knows.
func isRefusal(err error) bool {
	return errors.Is(err, errUnmet) || errors.Is(err, whatsmeow.ErrGroupNotFound) || errors.Is(err, whatsmeow.ErrNotInGroup)
}
