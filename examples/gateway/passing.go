package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A gateway that passes a request on, and the one that answers it, prove to each other that they
// have the token, without sending it: where a gateway is, is what the database says, and something
// unlike it can have got the address since.
const (
	passedHeader   = "Gateway-Passed-On" // for which process, a nonce, and the proof
	answeredHeader = "Gateway-Answered"  // the proof of that process
)

// A passing is of one request.
type passing struct {
	to    int64 // the process that is meant
	nonce string
}

func newPassing(to int64) passing { return passing{to, rand.Text()} }

// proof says that something with the token has said this of the passing.
func (p passing) proof(token string, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(token))
	for _, part := range append(parts, strconv.FormatInt(p.to, 10), p.nonce) {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

func (p passing) asked(token string, r *http.Request, body []byte) string {
	return p.proof(token, "asked", r.Method, r.URL.RequestURI(), string(body))
}

// sign marks a request as passed on.
func (p passing) sign(token string, r *http.Request, body []byte) {
	r.Header.Set(passedHeader, fmt.Sprint(p.to, " ", p.nonce, " ", p.asked(token, r, body)))
}

// isAnsweredBy reports whether a response is from a gateway with the token, and for this passing.
func (p passing) isAnsweredBy(token string, resp *http.Response) bool {
	said := resp.Header.Get(answeredHeader)
	resp.Header.Del(answeredHeader)
	return hmac.Equal([]byte(said), []byte(p.proof(token, "answered")))
}

type passingKey struct{}

// passingOf returns the passing by which a request has come here, if it was passed on.
func passingOf(r *http.Request) (p passing, ok bool) {
	p, ok = r.Context().Value(passingKey{}).(passing)
	return p, ok
}

// letPass lets in a request that another gateway has passed on, if that has the same token.
func (g *gateway) letPass(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestBody))
	fields := strings.Fields(r.Header.Get(passedHeader))
	var p passing
	if err == nil && len(fields) == 3 {
		p.nonce = fields[1]
		p.to, err = strconv.ParseInt(fields[0], 10, 64)
	}
	if err != nil || len(fields) != 3 || !hmac.Equal([]byte(fields[2]), []byte(p.asked(g.cfg.token, r, body))) {
		fail(w, failure{status: http.StatusUnauthorized, Error: "this request was not passed on by a gateway with the same token"})
		return
	}
	w.Header().Set(answeredHeader, p.proof(g.cfg.token, "answered"))
	r = r.WithContext(context.WithValue(r.Context(), passingKey{}, p))
	r.Body = io.NopCloser(bytes.NewReader(body))
	next.ServeHTTP(w, r)
}
