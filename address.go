package reupload

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// nameTimeout bounds how long a request waits to learn how a message can be named: how its
// group addresses its members, which the server is asked once a group, and who is who in
// the client's store.
const nameTimeout = 5 * time.Second

// addresses returns the ways to name a message, the likeliest first: one, or two if the
// client knows the chat, the participant or itself by phone number and by LID, or the
// participant by neither.
//
// Current WhatsApp Web names itself and the chat by LID once the account has migrated;
// whatsmeow and older versions of WhatsApp Web use phone numbers. The participant of a group
// goes by the group's own addressing mode: a phone number in a group that is addressed by
// LIDs is answered NOT_FOUND.
//
// It can hang for as long as whatsmeow dials, so that it is for goroutines that nobody waits for.
func (s *sender) addresses(ctx context.Context, req Request) []address {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	ownPN, ownLID := s.own()
	if ownLID.IsEmpty() {
		ownLID = ownPN
	}
	if req.IsFromMe && req.Participant.User == "" && hasParticipant(req.Chat) {
		req.Participant = ownPN
	}
	byPN := address{ownPN, s.inForm(ctx, req.Chat, types.DefaultUserServer), s.inForm(ctx, req.Participant, types.DefaultUserServer)}
	byLID := address{ownLID, s.inForm(ctx, req.Chat, types.HiddenUserServer), s.inForm(ctx, req.Participant, types.HiddenUserServer)}
	first, second := byPN, byLID
	if s.client.Store.LIDMigrationTimestamp > 0 && ownLID != ownPN {
		first, second = byLID, byPN
	}
	if first.participant != second.participant {
		server, sure := s.participantServer(ctx, req)
		if server != "" && first.participant.Server != server {
			first.participant, second.participant = second.participant, first.participant
		}
		if sure {
			second.participant = first.participant
		}
	}
	if first == second {
		return []address{first} // nothing to choose from
	}
	return []address{first, second}
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

// participantServer returns in which form a chat names its participants, and reports whether that
// is sure: a group in its own, and a broadcast in the one that the message came with.
func (s *sender) participantServer(ctx context.Context, req Request) (server string, sure bool) {
	if req.Chat.Server == types.GroupServer {
		if group, err := s.internals().GetCachedGroupData(ctx, req.Chat); err == nil && group != nil {
			switch group.AddressingMode {
			case types.AddressingModeLID:
				return types.HiddenUserServer, true
			case types.AddressingModePN:
				return types.DefaultUserServer, true
			}
		}
	}
	return req.Participant.Server, false
}

// inForm returns the phone number or the LID of a user, whichever the server asks for, if the
// client's store knows it, and else the JID as it is. Groups and broadcasts have one form only. A
// user without a server is taken for one of that server.
func (s *sender) inForm(ctx context.Context, jid types.JID, server string) types.JID {
	if jid.Server == "" {
		return withServer(jid, server)
	}
	if jid.Server == server || jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer {
		return jid
	}
	device := s.client.Store
	switch pn, lid := s.own(); jid.User {
	case pn.User:
		if !lid.IsEmpty() {
			return lid
		}
	case lid.User:
		return pn
	}
	if device.LIDs == nil {
		return jid
	}
	if other, err := device.GetAltJID(ctx, jid); err == nil && other.Server == server {
		return other.ToNonAD()
	}
	return jid
}

// canonical returns a user by phone number, if the client knows it, so that both names of one user
// are the same.
func (s *sender) canonical(ctx context.Context, jid types.JID) types.JID {
	if jid.Server != types.HiddenUserServer {
		return jid
	}
	return s.inForm(ctx, jid, types.DefaultUserServer)
}

// withServer completes a user whose server is not known. It leaves one that is empty
// or complete alone.
func withServer(jid types.JID, server string) types.JID {
	if jid.User != "" && jid.Server == "" {
		jid.Server = server
	}
	return jid
}
