package simulation

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"testing"
)

func TestRanges(t *testing.T) {
	r, err := ParseRanges("12,3-7,8,20-21")
	if err != nil || r.String() != "3-8,12,20-21" {
		t.Fatalf("%v, %v", r, err)
	}
	for n, has := range map[int]bool{2: false, 3: true, 8: true, 9: false, 12: true, 21: true, 22: false} {
		if r.Has(n) != has {
			t.Errorf("%d: %t", n, !has)
		}
	}
	for _, wrong := range []string{"x", "3-", "-4"} {
		if _, err := ParseRanges(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestSet(t *testing.T) {
	set, err := ParseSet("cdn:late,lookup:")
	if err != nil || !set[cdnLate] || !set[lookupHangs] || set[cdnEmpty] || len(set) != 8 {
		t.Errorf("%v, %v", set, err)
	}
	again, err := ParseSet(set.String())
	if err != nil || !reflect.DeepEqual(again, set) {
		t.Errorf("%v becomes %v (%v)", set, again, err)
	}
	if _, err := ParseSet("op:nothing"); err == nil {
		t.Error("a kind that is none is taken")
	}
}

// Decisions do not depend on what is left out.
func TestChoicesAreStable(t *testing.T) {
	all, _ := ParseSet("index:,lookup:,phone:,bot:,net:")
	for seed := range uint64(200) {
		with, without := Choose(seed, Limits{}), Choose(seed, Limits{Without: all})
		if with.Steps != without.Steps || with.Bad != without.Bad || with.Stranger != without.Stranger || with.Timeout != without.Timeout || with.MaxInFlight != without.MaxInFlight {
			t.Fatalf("seed %d:\n%v\n%v", seed, with.String(), without.String())
		}
		if without.Index != "" || without.Lookup != "" || without.Handlers || without.HalfOpen {
			t.Fatalf("seed %d has what is left out:\n%v", seed, without.String())
		}
	}
}

func TestSecrets(t *testing.T) {
	var s secrets
	key := []byte("\x01\x02\xfe\xffABCDEFGHIJKLMNOPQRSTUVWXYZab")
	s.add(key)
	for _, text := range []string{
		"x" + string(key), hex.EncodeToString(key), fmt.Sprintf("%X", key), base64.StdEncoding.EncodeToString(key), fmt.Sprint(key),
		base64.URLEncoding.EncodeToString(key), plaintextMark, "/v/x?ccb=1&oh=01_abc",
	} {
		if s.find("before "+text+" after") == "" {
			t.Errorf("not found in %q", text)
		}
	}
	if found := s.find("message 3EB0 in 4915550001@s.whatsapp.net, /v/t62.7118-24/1_n.enc"); found != "" {
		t.Errorf("%s is found where there is none", found)
	}
}

func TestChain(t *testing.T) {
	inner := &url.Error{Op: "Get", URL: "https://x/?oh=01_secret", Err: errors.New("refused")}
	texts := fmt.Sprint(chain(fmt.Errorf("outer: %w", errors.Join(errors.New("other"), fmt.Errorf("cut %w", inner)))))
	if (&secrets{}).find(texts) == "" {
		t.Errorf("what is wrapped is not looked at: %s", texts)
	}
}
