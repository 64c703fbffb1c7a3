package reupload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// nameTimeout bounds how long a request waits to learn how a message can be named: how its group
// addresses its members, which can take a query to the server, and which LID and phone number
// belong together, from the client's store.
const nameTimeout = 5 * time.Second

// A naming lists the ways to name a message on the wire.
type naming struct {
	// forms are one to three, the likeliest first. What of a name is certain is the same in all.
	forms []address
	// spare means that the last form is for a phone that says that it does not know the first: the
	// server's word that a group goes by phone numbers may be old by now.
	spare bool
	// err is set if the client's store or the server's answer about a group failed, and the right
	// form may be missing for that reason. Then silence or NOT_FOUND say nothing of the file.
	err error
}

// addresses returns the ways to name a message.
//
// Current WhatsApp Web names itself and the chat by LID once the account has migrated; whatsmeow
// and older versions of WhatsApp Web use phone numbers. A chat with one person and the sender of a
// status are sent in both forms, as far as the client knows them. The participant of a group goes
// by the group's own mode: a phone number in a group that is addressed by LIDs is answered
// NOT_FOUND. A message from another's broadcast list is in the list, or in the chat with its
// sender: which of them the phone goes by is not known.
//
// It can hang for as long as whatsmeow dials, so that it is for goroutines that nothing waits for.
func (s *sender) addresses(ctx context.Context, req Request) naming {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	ownPN, ownLID := s.own()
	own := person{pn: ownPN, lid: ownLID}
	server, other := types.DefaultUserServer, types.HiddenUserServer
	if s.client.Store.LIDMigrationTimestamp > 0 && !ownLID.IsEmpty() {
		server, other = other, server
	}
	if req.Chat == partChat { // a second form would make a phone that takes its time send the part twice
		return naming{forms: []address{{to: own.by(server)}}}
	}
	chat, err := s.person(ctx, req.Chat)
	first := address{to: own.by(server), chat: chat.by(server)}
	second := address{to: own.by(other), chat: chat.by(other)}
	if !hasParticipant(req.Chat) {
		if chat.isWhole() {
			err = nil
		}
		return naming{forms: distinct(first, second), err: err}
	}

	from, form := req.Participant, req.Participant.Server
	if from.User == "" {
		from, form = ownPN, ""
	}
	var names []types.JID
	var spare bool
	if req.Chat.Server == types.GroupServer {
		names, spare, err = s.namesInGroup(ctx, req.Chat, from, form, server)
	} else {
		names, err = s.bothNames(ctx, from, form, server)
	}
	first.participant, second.participant = names[0], names[len(names)-1]
	if req.Chat.IsBroadcastList() && !req.IsFromMe {
		direct := address{to: second.to, chat: first.participant}
		return naming{forms: distinct(first, direct, second), err: err}
	}
	return naming{forms: distinct(first, second), spare: spare, err: err}
}

func distinct(forms ...address) []address {
	return slices.Compact(forms)
}

// differs reports whether the forms name the sender differently: then the first one may be wrong.
func (n naming) differs() bool {
	for _, form := range n.forms {
		if form.participant != n.forms[0].participant {
			return true
		}
	}
	return false
}

// areAlike reports whether the ways to name a message differ only in how the account
// itself is named.
func areAlike(forms []address) bool {
	for _, f := range forms {
		if f.chat != forms[0].chat || f.participant != forms[0].participant {
			return false
		}
	}
	return true
}

// bothNames returns both names of a person as far as they are known, the one in the given form
// first, or in that of the server if there is none.
func (s *sender) bothNames(ctx context.Context, from types.JID, form, server string) ([]types.JID, error) {
	p, err := s.person(ctx, from)
	if p.isWhole() && !p.guessed {
		err = nil
	}
	return p.names(cmp.Or(form, server)), err
}

// namesInGroup returns the names that a group may have for a member: one if the group's mode is
// certain and the member has a name in it. It is certain if the server has just said it; if it is
// by phone number and the message's own sender is named so; and by LID for good, since groups go
// over to LIDs and not back. Since they do, the LID is spare where the server has not just said
// that the group goes by phone numbers, or a message by LIDs contradicts it.
func (s *sender) namesInGroup(ctx context.Context, chat, from types.JID, form, server string) (names []types.JID, spare bool, err error) {
	p, err := s.person(ctx, from)
	before, _ := s.groups.recall(chat)
	mode := before.mode
	life := modeLife
	if !p.isWhole() { // there is no spare name for a group that has gone over meanwhile
		life = wordLife
	}
	certain := mode == types.AddressingModeLID && p.isIn(types.HiddenUserServer) ||
		mode == types.AddressingModePN && form == types.DefaultUserServer && time.Since(before.said) < life
	contradicts := mode == types.AddressingModePN && form == types.HiddenUserServer
	if !certain && !(contradicts && time.Since(before.contradicted) < contradictionPause) {
		isFresh := func(g group) bool { return mode == "" || time.Since(g.said) < min(life, groupPause) }
		if contradicts {
			isFresh = func(g group) bool { return g.answers > before.answers }
		}
		said, members, failed := s.groups.ask(ctx, chat, isFresh, s.fetchGroup)
		switch {
		case failed == nil:
			mode, certain = said, true
			p, err = s.memberOf(ctx, members, from, p, err)
		case mode == types.AddressingModePN && form == types.DefaultUserServer && time.Since(before.said) < modeLife:
			certain = true // the old word stands
		case !isRefusal(failed):
			err = errors.Join(err, failed)
		}
		if (contradicts || before.isDoubted()) && said == types.AddressingModePN {
			s.groups.note(chat, func(known *group) { known.contradicted = time.Now() })
		}
	}
	switch mode {
	case types.AddressingModeLID:
		server = types.HiddenUserServer
	case types.AddressingModePN:
		server = types.DefaultUserServer
	default:
		server, certain = cmp.Or(form, server), false
	}
	if certain && !p.guessed {
		if p.isIn(server) {
			err = nil
		}
		known, _ := s.groups.recall(chat)
		isOld := time.Since(known.said) >= wordLife || time.Since(known.contradicted) < contradictionPause
		if mode == types.AddressingModePN && p.isWhole() && isOld {
			return p.names(server), true, err
		}
		return []types.JID{p.by(server)}, false, err
	}
	if p.isWhole() && !p.guessed {
		err = nil
	}
	return p.names(server), false, err
}

// memberOf completes the names of a person from a group's list of members, or from the client's
// store, in which whatsmeow has kept the list.
func (s *sender) memberOf(ctx context.Context, members []types.GroupParticipant, jid types.JID, p person, err error) (person, error) {
	if p.isWhole() && !p.guessed {
		return p, err
	}
	for _, m := range members {
		pn, lid := m.PhoneNumber.ToNonAD(), m.LID.ToNonAD()
		if jid == pn || jid == lid || jid.Server == "" && (jid.User == pn.User || jid.User == lid.User) {
			return person{pn: pn, lid: lid}, nil
		}
	}
	return s.person(ctx, jid)
}

// fetchGroup asks the server about a group. whatsmeow stores the members' LIDs and numbers that
// the server answers with.
func (s *sender) fetchGroup(ctx context.Context, chat types.JID) (*types.GroupInfo, error) {
	if !s.isOnline() { // or it would wait for a dial
		return nil, whatsmeow.ErrNotConnected
	}
	return s.client.GetGroupInfo(ctx, chat)
}

// A person is the two names of somebody, of which one may be empty because it is not known. What
// has one name only, such as a group, has it as both.
type person struct {
	pn, lid types.JID
	guessed bool // it is a number without a server, which is one or the other
}

// by returns the address of one kind, or the other one if that is not known.
func (p person) by(server string) types.JID {
	if server == types.HiddenUserServer && p.lid.User != "" || p.pn.User == "" {
		return p.lid
	}
	return p.pn
}

func (p person) isIn(server string) bool { return p.by(server).Server == server }

func (p person) isWhole() bool { return p.pn.User != "" && p.lid.User != "" }

// names returns the names that are known, the one in a form first.
func (p person) names(server string) []types.JID {
	other := types.HiddenUserServer
	if server == other {
		other = types.DefaultUserServer
	}
	return slices.Compact([]types.JID{p.by(server), p.by(other)})
}

// person returns both names of a chat or person, as far as the client knows them. A number without
// a server is looked for as the account itself, as a phone number, and as a LID. The error is that
// of the client's store.
func (s *sender) person(ctx context.Context, jid types.JID) (person, error) {
	pn, lid := s.own()
	switch {
	case jid.User == "":
		return person{}, nil
	case s.isOwn(jid), jid.Server == "" && (jid.User == pn.User || jid.User == lid.User):
		return person{pn: pn, lid: lid}, nil
	}
	switch jid.Server {
	case types.DefaultUserServer:
		other, err := s.otherName(ctx, jid)
		return person{pn: jid, lid: other}, err
	case types.HiddenUserServer:
		other, err := s.otherName(ctx, jid)
		return person{pn: other, lid: jid}, err
	case "":
		p := person{pn: types.NewJID(jid.User, types.DefaultUserServer), lid: types.NewJID(jid.User, types.HiddenUserServer), guessed: true}
		other, err := s.otherName(ctx, p.pn)
		if !other.IsEmpty() {
			return person{pn: p.pn, lid: other}, nil
		}
		other, failed := s.otherName(ctx, p.lid)
		if !other.IsEmpty() {
			return person{pn: other, lid: p.lid}, err
		}
		return p, errors.Join(err, failed)
	}
	return person{pn: jid, lid: jid}, nil
}

// otherName returns the LID of a phone number, or the phone number of a LID, which is empty if the
// client's store does not know it.
func (s *sender) otherName(ctx context.Context, jid types.JID) (types.JID, error) {
	device := s.client.Store
	if device.LIDs == nil {
		return types.EmptyJID, nil
	}
	other, err := device.GetAltJID(ctx, jid)
	if err != nil || other.User == "" || other.Server == jid.Server {
		return types.EmptyJID, err
	}
	return other.ToNonAD(), nil
}

// canonical returns one name for all names of a person: the phone number, if the client's store
// knows it. The error is that of the store; the name is then the one given.
func (s *sender) canonical(ctx context.Context, jid types.JID) (types.JID, error) {
	if jid.Server != types.HiddenUserServer && jid.Server != "" {
		return jid, nil
	}
	p, err := s.person(ctx, jid)
	if err != nil || p.guessed || p.pn.User == "" {
		return jid, err
	}
	return p.pn, nil
}
