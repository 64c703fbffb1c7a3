package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// code asks the gateway to link an account, as often as it says that this is to be tried again, and
// returns what is to be typed on its phone.
func (s *stage) code(t *testing.T, phone *wabox.Account) string {
	t.Helper()
	var got answer
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got = s.post(t, `{"phone": "+`+phone.PN.User+`"}`, "")
		if got.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			break
		}
	}
	var body struct {
		Code    string  `json:"code"`
		Expires float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(got.body, &body); err != nil || got.status != http.StatusAccepted || body.Expires != pairingTime.Seconds() {
		t.Fatalf("got %s, %v", got, err)
	}
	return body.Code
}

// typeCode types a code on a phone, and waits until the gateway says that the account is
// linked and connected.
func (s *stage) typeCode(t *testing.T, phone *wabox.Account, code string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := phone.EnterCode(ctx, code); err != nil {
		t.Fatal(err)
	}
	s.phones[phone.PN.User] = phone
	s.waitState(t, accountState{Account: phone.PN.User, Linked: true, Connected: true})
}

// serves checks that an account gets a message, and that the gateway has its file.
func (s *stage) serves(t *testing.T, phone *wabox.Account) {
	t.Helper()
	text := fmt.Sprint("for ", phone.PN.User, ", login ", phone.Logins())
	media := s.upload(text)
	id, err := phone.Deliver(wabox.Incoming{From: sender, Alt: senderLID}, &waE2E.Message{ImageMessage: media.Image()})
	if err != nil {
		t.Fatal(err)
	}
	s.box.Expire(media)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		got, err := s.get(t.Context(), phone.PN.User, sender.String(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != http.StatusNotFound || time.Now().After(deadline) {
			if string(got.body) != text {
				t.Errorf("got %s, want %q", got, text)
			}
			return
		}
	}
}

// sessions returns how many sessions of an account the database has.
func (s *stage) sessions(t *testing.T, phone *wabox.Account) (n int) {
	t.Helper()
	devices, err := s.g.sessions.GetAllDevices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range devices {
		if device.ID.User == phone.PN.User {
			n++
		}
	}
	return n
}

// TestLinks links an account as its user does, and restarts the gateway.
func TestLinks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	phone := s.box.NewPhone()
	err := s.withGateway(t.Context(), func(context.Context) error {
		code := s.code(t, phone)
		if err := s.phones[s.a].EnterCode(t.Context(), code); err == nil {
			t.Error("the code is good for another account")
		}
		for _, known := range s.g.list() {
			if known.Account == phone.PN.User {
				t.Error("it is listed before the code was typed")
			}
		}
		s.typeCode(t, phone, code)
		s.serves(t, phone)
		if got := s.post(t, `{"phone": "`+phone.PN.User+`"}`, ""); got.status != http.StatusConflict {
			t.Errorf("it is linked, and POST gets %s", got)
		}
		phone.Logout()
		s.waitState(t, accountState{Account: phone.PN.User, Linked: false, Connected: false})
		s.typeCode(t, phone, s.code(t, phone))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.withGateway(t.Context(), func(context.Context) error { // which waits for all three
		s.serves(t, phone)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUnlinkedWhileAway unlinks an account whose connection is broken. The gateway learns that from
// the next login, or not at all before the account is linked again.
func TestUnlinkedWhileAway(t *testing.T) {
	t.Parallel()
	for _, knows := range []bool{true, false} {
		t.Run(fmt.Sprint("knows ", knows), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			phone := s.phones[s.a]
			err := s.withGateway(t.Context(), func(context.Context) error {
				s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
				phone.Offline(true)
				s.waitState(t, accountState{Account: s.a, Linked: true, Connected: false})
				phone.Logout()
				if knows {
					phone.Offline(false)
					s.waitState(t, accountState{Account: s.a, Linked: false, Connected: false})
				}
				code := s.code(t, phone)
				phone.Offline(false)
				s.typeCode(t, phone, code)
				s.serves(t, phone)
				if got := s.post(t, `{"phone": "`+s.a+`"}`, ""); got.status != http.StatusConflict {
					t.Errorf("it is linked again, and POST gets %s", got)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			err = s.withGateway(t.Context(), func(context.Context) error {
				if n := s.sessions(t, phone); n != 1 {
					t.Errorf("there are %d sessions of the account", n)
				}
				s.serves(t, phone)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEndsWhileLinking ends the gateway while a code waits to be typed.
func TestEndsWhileLinking(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	phone := s.box.NewPhone()
	var code string
	err := s.withGateway(t.Context(), func(context.Context) error {
		code = s.code(t, phone)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.EnterCode(t.Context(), code); err == nil {
		t.Error("the code is still good")
	}
}

// TestNoCode has a WhatsApp that cannot be reached.
func TestNoCode(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	phone := s.box.NewPhone()
	err := s.withGateway(t.Context(), func(context.Context) error {
		s.g.cfg.transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed })
		got := s.post(t, `{"phone": "`+phone.PN.User+`"}`, "")
		if got.status != http.StatusBadGateway || !strings.Contains(string(got.body), `"retry":true`) || got.header.Get("Retry-After") == "" {
			t.Errorf("got %s, with %v", got, got.header)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
