package wabox

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// A Replayed is a file of a record in a box. The client gets its message by [Replayed.Deliver].
type Replayed struct {
	RecordedFile
	ID      types.MessageID
	In      Incoming       // where the message is; of a part of the history it is empty
	Message *waE2E.Message // what the client gets
	Media   *Media
	// Heals reports whether the phone has told a path, in any form, under which the file was.
	Heals bool

	account *Account
	part    *HistoryPart
	all     []*Replayed // of the record
	asked   map[Form]int
}

// Replay makes the account behave as a [Record] shows, and returns its files in order. For each
// there is a new message, whose requests are answered, late or not at all, as those for the
// recorded file were; and the CDN answers for its paths as it did. Call Replay before the client is
// made, as it sets what the device knows of the account's LID.
//
// A form in which the record has no request for a file is answered if it was answered for other
// files in such a chat; what the answer says is up to the file. If the record says nothing of the
// form at all, the phone answers as to the last form that it was asked in.
func (a *Account) Replay(r *Record) ([]*Replayed, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if a.Device == nil {
		return nil, errUnlinked
	}
	if !r.HasLID {
		a.HideLID()
	}
	a.Device.LIDMigrationTimestamp = 0
	if r.Migrated {
		a.Device.LIDMigrationTimestamp = time.Now().Unix()
	}
	var files []*Replayed
	for i := range r.Files {
		f := &Replayed{RecordedFile: r.Files[i], account: a, asked: make(map[Form]int)}
		if err := f.stage(i); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range files {
		f.all = files
		a.phone.replayed[f.ID] = f
	}
	return files, nil
}

// Deliver sends the client the message. It can be called again.
func (f *Replayed) Deliver() error {
	if f.part != nil {
		return f.part.Deliver()
	}
	_, err := f.account.Deliver(f.In, f.Message)
	return err
}

// stage puts the file where the record has it.
func (f *Replayed) stage(i int) error {
	a, box := f.account, f.account.box
	contact := func(n int) (pn, lid types.JID) {
		pn = types.NewJID(fmt.Sprintf("44770090%04d", n), types.DefaultUserServer)
		lid = types.NewJID(fmt.Sprintf("20000000000%04d", n), types.HiddenUserServer)
		box.Link(pn, lid)
		return pn, lid
	}
	if f.Kind == KindHistory {
		if err := f.stagePart(i); err != nil {
			return err
		}
	} else {
		f.ID = newMessageID()
		f.Media = box.Upload(fmt.Appendf(nil, "file %d of the record", i+1), whatsmeow.MediaImage)
		f.Message = &waE2E.Message{ImageMessage: f.Media.Image()}
		number := f.Sender
		if f.Kind == KindDirect {
			number = f.RecordedFile.Chat
		}
		pn, lid := contact(number)
		if f.ByLID {
			pn, lid = lid, pn
		}
		f.In = Incoming{
			ID: f.ID, From: pn, Alt: lid, FromMe: f.FromMe, LIDMode: f.ByLID,
			Timestamp: time.Now().Add(-f.Age.Duration()),
		}
		switch f.Kind {
		case KindDirect:
			if f.FromMe {
				f.In.From, f.In.Chat = types.EmptyJID, pn
			}
		case KindGroup, KindGroupStatus:
			f.In.Chat = types.NewJID(fmt.Sprintf("12036304%010d", f.RecordedFile.Chat), types.GroupServer)
			mode, own := types.AddressingModePN, a.PN
			if f.ByLID {
				mode, own = types.AddressingModeLID, a.LID
			}
			if f.FromMe {
				f.In.From, f.In.Alt = types.EmptyJID, types.EmptyJID
			}
			a.Group(f.In.Chat, mode, own, pn)
			if f.Kind == KindGroupStatus {
				f.Message = &waE2E.Message{GroupStatusMessageV2: &waE2E.FutureProofMessage{Message: f.Message}}
			}
		case KindList:
			f.In.Chat = types.NewJID(fmt.Sprintf("170000%04d", f.RecordedFile.Chat), types.BroadcastServer)
		}
		a.KnowsMessage(f.In, f.Message)
	}
	if f.Kind != KindHistory && f.Resent != "" {
		f.stageResent()
	}
	box.Serve(f.Media.DirectPath, pathOverTime(f.Old, time.Now()))
	for _, try := range f.Tries {
		f.Heals = f.Heals || len(try.Parts) > 0 || slices.ContainsFunc(try.Answers, func(answer RecordedAnswer) bool { return answer.HasPath })
	}
	if n := len(f.New); n > 0 && f.Kind != KindHistory {
		f.Heals = f.Heals && slices.ContainsFunc(f.New, func(s RecordedStatus) bool { return s.Status == http.StatusOK })
	}
	return nil
}

// stagePart puts a part of the history on the CDN.
func (f *Replayed) stagePart(i int) error {
	pn := proto.String(defaultContact.String())
	part, err := f.account.UploadHistory(&waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(), ChunkOrder: proto.Uint32(uint32(i)),
		Conversations: []*waHistorySync.Conversation{{ID: pn, Messages: []*waHistorySync.HistorySyncMsg{{Message: &waWeb.WebMessageInfo{
			Key:              &waCommon.MessageKey{ID: proto.String(newMessageID()), RemoteJID: pn},
			Message:          &waE2E.Message{Conversation: proto.String(fmt.Sprintf("part %d of the record", i+1))},
			MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
		}}}}},
	})
	if err != nil {
		return err
	}
	f.part, f.ID, f.Media, f.Message = part, part.ID, part.Media, part.Message
	return nil
}

// stageResent lets the phone send the whole message again as the record shows.
func (f *Replayed) stageResent() {
	msg := f.Message
	switch f.Resent {
	case "nothing":
		msg = nil
	case "other-key":
		msg = &waE2E.Message{ImageMessage: f.account.box.Upload(f.Media.Plaintext, f.Media.Type).Image()}
	}
	f.account.Resend(f.In, msg)
}

// pathOverTime answers downloads with the status that a record has for the time since start. For
// what is before the first one, that is the first. A 200 is the file itself, if it is there.
func pathOverTime(statuses []RecordedStatus, start time.Time) func(http.ResponseWriter, *http.Request) bool {
	if len(statuses) == 0 {
		return nil
	}
	return func(w http.ResponseWriter, _ *http.Request) bool {
		now := statuses[0]
		for _, s := range statuses {
			if s.After.Duration() <= time.Since(start) {
				now = s
			}
		}
		if now.Status < 300 {
			return false
		}
		w.WriteHeader(now.Status)
		if now.SaysExpired {
			_, _ = io.WriteString(w, "URL signature expired")
		}
		return true
	}
}

// formOf returns the form of a request.
func formOf(r Request) Form {
	name := func(jid types.JID) string {
		switch jid.Server {
		case types.DefaultUserServer:
			return ByNumber
		case types.HiddenUserServer:
			return ByLID
		}
		return ""
	}
	return Form{To: name(r.To), Chat: name(r.Chat), Participant: name(r.Participant)}
}

// answer returns what the record has for a request. The account's mu is held.
func (f *Replayed) answer(r Request) []Answer {
	form := formOf(r)
	var own []RecordedTry // in this form
	for _, t := range f.Tries {
		if t.Form == form {
			own = append(own, t)
		}
	}
	if len(own) > 0 {
		n := min(f.asked[form], len(own)-1)
		f.asked[form]++
		return f.play(own[n])
	}
	for _, other := range f.all {
		for _, t := range other.Tries {
			if other.Kind == f.Kind && other.ByLID == f.ByLID && t.Form == form && !t.isAnswered() {
				return f.play(t)
			}
		}
	}
	last := f.Tries[len(f.Tries)-1]
	for _, t := range f.Tries {
		if t.isAnswered() {
			last = t
		}
	}
	return f.play(last)
}

// isAnswered reports whether a request in its form has reached the phone, and named the message as
// the phone knows it: a phone that seals its answer has the message's key.
func (t *RecordedTry) isAnswered() bool {
	return len(t.Parts) > 0 || slices.ContainsFunc(t.Answers, func(a RecordedAnswer) bool { return a.Sealed })
}

// play turns what a record shows of one request into answers.
func (f *Replayed) play(t RecordedTry) (answers []Answer) {
	ack := Answer{Ack: AckOK, AckDelay: t.AckAfter.Duration()}
	switch {
	case !t.Acked:
		ack.Ack = AckNone
	case t.Refused > 0:
		ack.Ack = AckError(strconv.Itoa(t.Refused))
	}
	last := ack.AckDelay
	pause := func(until Millis) time.Duration {
		delay := max(0, until.Duration()-last)
		last += delay
		return delay
	}
	for _, part := range t.Parts {
		answers = append(answers, Answer{Result: Success, Delay: pause(part)})
	}
	for _, recorded := range t.Answers {
		answers = append(answers, f.answerOf(recorded, pause(recorded.After)))
	}
	if len(answers) == 0 {
		answers = []Answer{{None: true}}
	}
	answers[0].Ack, answers[0].AckDelay = ack.Ack, ack.AckDelay
	return answers
}

func (f *Replayed) answerOf(recorded RecordedAnswer, delay time.Duration) Answer {
	answer := Answer{Delay: delay}
	if recorded.Result == Unreadable {
		answer.WrongKey, answer.Result = true, GeneralError
		return answer
	}
	number := waMmsRetry.MediaRetryNotification_ResultType_value[recorded.Result]
	if !recorded.Sealed {
		code := strconv.Itoa(int(number))
		answer.ErrorCode = &code
		return answer
	}
	answer.Result = waMmsRetry.MediaRetryNotification_ResultType(number)
	answer.NoPath = !recorded.HasPath
	if recorded.HasPath {
		answer.WithPath = true
		answer.told = func(path string) { f.account.box.Serve(path, pathOverTime(f.New, time.Now())) }
	}
	return answer
}

// Resend sets what the phone sends when the client asks it for a message again, with a peer message
// as whatsmeow's BuildUnavailableMessageRequest makes it: the message as the phone has it now. nil
// is silence, as it is for messages for which this was not called, and for a request that names
// another chat or sender. What real phones do is known for messages that could not be decrypted
// only.
func (a *Account) Resend(in Incoming, msg *waE2E.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in = a.withDefaults(in)
	delete(a.phone.resends, in.ID)
	if msg != nil {
		a.phone.resends[in.ID] = func(key *waCommon.MessageKey, requestID types.MessageID) error {
			if !a.isNamedBy(in, key) {
				return nil
			}
			return a.sendResent(in, msg, requestID)
		}
	}
}

// asksPeer does what the phone does about a message of the client that is for it alone.
func (a *Account) asksPeer(id types.MessageID, msg *waE2E.Message) {
	for _, asked := range msg.GetProtocolMessage().GetPeerDataOperationRequestMessage().GetPlaceholderMessageResendRequest() {
		a.mu.Lock()
		resend := a.phone.resends[asked.GetMessageKey().GetID()]
		a.mu.Unlock()
		if resend != nil {
			_ = resend(asked.GetMessageKey(), id) // if that fails, there is no client any more
		}
	}
}

// isNamedBy reports whether a key names a message as the phone has it.
func (a *Account) isNamedBy(in Incoming, key *waCommon.MessageKey) bool {
	same := func(name string, jid types.JID) bool {
		named, err := types.ParseJID(name)
		return err == nil && a.box.people.same(plain(named), plain(jid))
	}
	return key.GetFromMe() == in.FromMe && same(key.GetRemoteJID(), in.Chat) &&
		(isUser(in.Chat) || in.FromMe || same(key.GetParticipant(), in.From))
}

func (a *Account) sendResent(in Incoming, msg *waE2E.Message, requestID types.MessageID) error {
	key := &waCommon.MessageKey{ID: &in.ID, RemoteJID: proto.String(in.Chat.String()), FromMe: &in.FromMe}
	web := &waWeb.WebMessageInfo{Key: key, Message: msg, MessageTimestamp: proto.Uint64(uint64(in.Timestamp.Unix()))}
	if !isUser(in.Chat) {
		key.Participant = proto.String(plain(in.From).String())
	}
	data, err := proto.Marshal(web)
	if err != nil {
		return err
	}
	return a.sendPeer(&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(),
		PeerDataOperationRequestResponseMessage: &waE2E.PeerDataOperationRequestResponseMessage{
			PeerDataOperationRequestType: waE2E.PeerDataOperationRequestType_PLACEHOLDER_MESSAGE_RESEND.Enum(),
			StanzaID:                     &requestID,
			PeerDataOperationResult: []*waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{{
				PlaceholderMessageResendResponse: &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_PlaceholderMessageResendResponse{
					WebMessageInfoBytes: data,
				},
			}},
		},
	}}, "")
}
