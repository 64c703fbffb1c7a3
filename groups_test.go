package reupload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

var errStore = errors.New("database is locked")

// lockedLIDs is a client's store that fails.
type lockedLIDs struct{ store.LIDStore }

func (lockedLIDs) GetLIDForPN(context.Context, types.JID) (types.JID, error) {
	return types.EmptyJID, errStore
}

func (lockedLIDs) GetPNForLID(context.Context, types.JID) (types.JID, error) {
	return types.EmptyJID, errStore
}

func aGroup(n int) types.JID { return types.NewJID(fmt.Sprint(1203630000+n), types.GroupServer) }

func anyAge(group) bool { return true }

// A server that takes a second for each query, and answers as told.
type groupServer struct {
	queries, at, atOnce int
	err                 error
	mode                types.AddressingMode
}

func (s *groupServer) fetch(ctx context.Context, chat types.JID) (*types.GroupInfo, error) {
	s.queries++
	s.at++
	s.atOnce = max(s.at, s.atOnce)
	defer func() { s.at-- }()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return &types.GroupInfo{JID: chat, AddressingMode: s.mode, Participants: []types.GroupParticipant{{JID: stageLID}}}, nil
}

// The server is asked about one group at a time, and about each one once.
func TestGroupQueriesGoOneByOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var g groups
		server := groupServer{mode: types.AddressingModeLID}
		var members atomic.Int32
		for n := range 12 {
			g.meet(aGroup(n % 3))
			go func() {
				mode, list, err := g.ask(t.Context(), aGroup(n%3), anyAge, server.fetch)
				members.Add(int32(len(list)))
				if mode != types.AddressingModeLID || err != nil {
					t.Errorf("%v, %v", mode, err)
				}
			}()
			synctest.Wait()
		}
		pass(time.Minute)
		if server.queries != 3 || server.atOnce != 1 || members.Load() != 3 {
			t.Errorf("%d queries, %d at once, %d members", server.queries, server.atOnce, members.Load())
		}
	})
}

// A caller waits for another's query for as long as its context lasts.
func TestGroupQueryEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var g groups
		g.meet(aGroup(1))
		g.meet(aGroup(2))
		server := groupServer{mode: types.AddressingModePN}
		go g.ask(t.Context(), aGroup(1), anyAge, server.fetch)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := g.ask(ctx, aGroup(2), anyAge, server.fetch); err != context.DeadlineExceeded {
			t.Errorf("while it waits: %v", err)
		}
		pass(time.Minute)
		if mode, _, err := g.ask(t.Context(), aGroup(2), anyAge, server.fetch); mode != types.AddressingModePN || err != nil || server.queries != 2 {
			t.Errorf("after that: %v, %v, %d queries", mode, err, server.queries)
		}
	})
}

// What has failed is not asked again for a while, if the next query would fail for the same reason.
func TestGroupQueriesThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		timeout time.Duration
		lasts   bool
		refusal bool
	}{
		"left":         {err: whatsmeow.ErrNotInGroup, lasts: true, refusal: true},
		"not there":    {err: whatsmeow.ErrGroupNotFound, lasts: true, refusal: true},
		"too many":     {err: whatsmeow.ErrIQRateOverLimit, lasts: true},
		"slow":         {timeout: 500 * time.Millisecond, lasts: true},
		"offline":      {err: whatsmeow.ErrNotConnected},
		"disconnected": {err: &whatsmeow.DisconnectedError{Action: "info query"}},
		"cancelled":    {err: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var g groups
				g.meet(aGroup(1))
				server := groupServer{err: c.err}
				asks := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(c.timeout, time.Minute))
					defer cancel()
					_, _, err := g.ask(ctx, aGroup(1), anyAge, server.fetch)
					return err
				}
				first := asks()
				if first == nil || isRefusal(first) != c.refusal {
					t.Errorf("it fails with %v", first)
				}
				if again := asks(); !errors.Is(again, first) {
					t.Errorf("%v, and then %v", first, again)
				}
				if want := map[bool]int{true: 1, false: 2}[c.lasts]; server.queries != want {
					t.Errorf("%d queries, want %d", server.queries, want)
				}
				pass(groupPause)
				before := server.queries
				server.err = nil
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, _, err := g.ask(ctx, aGroup(1), anyAge, server.fetch); err != nil || server.queries != before+1 {
					t.Errorf("later: %v, %d queries", err, server.queries-before)
				}
			})
		})
	}
}

func TestGroupsThatAreMet(t *testing.T) {
	t.Parallel()
	var g groups
	if _, _, err := g.ask(t.Context(), aGroup(1), anyAge, nil); err != errUnmet || !isRefusal(err) {
		t.Errorf("a group that was never met: %v", err)
	}
	g.meet(stageChat)
	g.meet(types.StatusBroadcastJID)
	if len(g.known) != 0 {
		t.Errorf("these are no groups: %v", g.known)
	}
	for n := range 3 * maxGroups {
		g.meet(aGroup(n))
		g.meet(aGroup(n))
		if _, ok := g.recall(aGroup(n)); !ok || len(g.known) > maxGroups {
			t.Fatalf("after %d groups: %t, %d are known", n, ok, len(g.known))
		}
	}
	if len(g.known) != maxGroups {
		t.Errorf("%d are known", len(g.known))
	}
}

// The error of a naming says that a form may be missing, and only then.
func TestNamingFails(t *testing.T) {
	t.Parallel()
	own, ownLID := stageOwn, types.NewJID("111", types.HiddenUserServer)
	for name, c := range map[string]struct {
		chat, from types.JID
		fromMe     bool
		mode       types.AddressingMode // as the server has said it long ago
		failed     error                // what it has said just now
		works      bool                 // the client's store
		forms      int
		err        error
	}{
		"a chat":                                {chat: stageChat, forms: 2, err: errStore},
		"a chat with oneself":                   {chat: own, forms: 2},
		"a status":                              {chat: types.StatusBroadcastJID, from: stageChat, forms: 2, err: errStore},
		"an own status":                         {chat: types.StatusBroadcastJID, fromMe: true, forms: 2},
		"a status by a bare number":             {chat: types.StatusBroadcastJID, from: types.JID{User: "9"}, forms: 2, err: errStore},
		"a group by LIDs, the LID":              {chat: aGroup(1), from: stageLID, mode: types.AddressingModeLID, forms: 2},
		"a group by LIDs, the number":           {chat: aGroup(1), from: stageChat, mode: types.AddressingModeLID, forms: 2, err: errStore},
		"a group by numbers, the number":        {chat: aGroup(1), from: stageChat, mode: types.AddressingModePN, forms: 2},
		"a group by numbers, the LID":           {chat: aGroup(1), from: stageLID, mode: types.AddressingModePN, forms: 2, err: errStore},
		"a group by LIDs, oneself":              {chat: aGroup(1), fromMe: true, mode: types.AddressingModeLID, forms: 2},
		"an unknown group":                      {chat: aGroup(1), from: stageChat, forms: 2, err: errStore},
		"a group that fails, both names":        {chat: aGroup(1), from: stageChat, works: true, forms: 2},
		"a group that fails, one name":          {chat: aGroup(1), from: types.NewJID("9", types.DefaultUserServer), works: true, forms: 2, err: whatsmeow.ErrNotConnected},
		"a group that was left, one name":       {chat: aGroup(1), from: types.NewJID("9", types.DefaultUserServer), works: true, failed: whatsmeow.ErrNotInGroup, forms: 2},
		"a group that was left, a bare number":  {chat: aGroup(1), from: types.JID{User: "9"}, works: true, failed: whatsmeow.ErrNotInGroup, forms: 2},
		"a group that is too busy, one name":    {chat: aGroup(1), from: types.NewJID("9", types.DefaultUserServer), works: true, failed: whatsmeow.ErrIQRateOverLimit, forms: 2, err: whatsmeow.ErrIQRateOverLimit},
		"a group that fails, a bare number":     {chat: aGroup(1), from: types.JID{User: "9"}, works: true, forms: 2, err: whatsmeow.ErrNotConnected},
		"another's list, by number, both names": {chat: types.NewJID("1", types.BroadcastServer), from: stageChat, works: true, forms: 3},
		"the account's own list":                {chat: types.NewJID("1", types.BroadcastServer), fromMe: true, works: true, forms: 2},
	} {
		device := &store.Device{LIDs: lockedLIDs{}}
		if c.works {
			device.LIDs = knownLIDs{ofPN: map[types.JID]types.JID{stageChat: stageLID}}
		}
		s := &sender{client: whatsmeow.NewClient(device, nil)}
		s.account.Store(&account{own, ownLID})
		s.groups.meet(c.chat)
		s.groups.note(c.chat, func(known *group) {
			if c.mode != "" {
				known.mode, known.answers, known.said = c.mode, 1, time.Now()
			}
			known.err, known.failed = c.failed, time.Now()
		})
		n := s.addresses(t.Context(), Request{MessageID: "id", Chat: c.chat, Participant: c.from, IsFromMe: c.fromMe})
		if len(n.forms) != c.forms || !errors.Is(n.err, c.err) || (n.err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, %v; want %v", name, n.forms, n.err, c.err)
		}
		if _, err := s.canonical(t.Context(), stageLID); errors.Is(err, errStore) == c.works {
			t.Errorf("%s: canonical fails with %v", name, err)
		}
	}
}
