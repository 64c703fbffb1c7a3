package reupload

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// groupQueryTimeout bounds how long a request waits to learn how a group addresses its members, which is asked once a group.
const groupQueryTimeout = 5 * time.Second

// addresses returns the ways to name a message, the likeliest first: one, or two if the client knows the chat or the
// participant by phone number and by LID.
//
// Current WhatsApp Web names itself and the chat by LID once the account has migrated; whatsmeow and older versions of
// WhatsApp Web use phone numbers. The participant of a group goes by the group's own addressing mode: a phone number in a
// group that is addressed by LIDs is answered NOT_FOUND.
func (s *sender) addresses(ctx context.Context, req Request) []address {
	device := s.client.Store
	ownPN, ownLID := s.own()
	lidFirst := device.LIDMigrationTimestamp > 0

	byPN := address{ownPN, s.inForm(ctx, req.Chat, types.DefaultUserServer), s.inForm(ctx, req.Participant, types.DefaultUserServer)}
	byLID := address{ownLID, s.inForm(ctx, req.Chat, types.HiddenUserServer), s.inForm(ctx, req.Participant, types.HiddenUserServer)}
	if ownLID.IsEmpty() {
		byLID.to, lidFirst = ownPN, false
	}
	first, second := byPN, byLID
	if lidFirst {
		first, second = byLID, byPN
	}
	if first.chat == second.chat && first.participant == second.participant {
		return []address{first} // nothing to choose from
	}
	if !req.Participant.IsEmpty() && first.participant != second.participant &&
		first.participant.Server != s.participantServer(ctx, req) {
		first.participant, second.participant = second.participant, first.participant
	}
	return []address{first, second}
}

// participantServer returns in which form a chat names its participants: a group in its own, and a broadcast in the one
// that the message came with.
func (s *sender) participantServer(ctx context.Context, req Request) string {
	if req.Chat.Server == types.GroupServer {
		ctx, cancel := context.WithTimeout(ctx, groupQueryTimeout)
		defer cancel()
		if group, err := s.internals().GetCachedGroupData(ctx, req.Chat); err == nil && group != nil {
			switch group.AddressingMode {
			case types.AddressingModeLID:
				return types.HiddenUserServer
			case types.AddressingModePN:
				return types.DefaultUserServer
			}
		}
	}
	return req.Participant.Server
}

// inForm returns the phone number or the LID of a user, whichever the server asks for, if the client's store knows it, and
// else the JID as it is. Groups and broadcasts have one form only.
func (s *sender) inForm(ctx context.Context, jid types.JID, server string) types.JID {
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
