package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A cdn looks at paths as whatsmeow's downloads do, and takes the first byte alone.
type cdn struct {
	account *account
	http    *http.Client
}

func newCDN(a *account, base http.RoundTripper) *cdn {
	return &cdn{a, &http.Client{Transport: base, Timeout: time.Minute}}
}

// largestFile is how large a file can be that is compared as a whole.
const largestFile = 16 << 20

// mediaTypes are the names that URLs have for the directories of the CDN.
var mediaTypes = map[string]string{
	"t62.7118": "image", "t62.7161": "video", "t62.7117": "audio", "t62.7119": "document", "t62.15575": "sticker-pack",
}

// request asks for a path. The error never has the path in it, which is a key to the file.
func (c *cdn) request(ctx context.Context, path string, hash []byte, ranges string) (*http.Response, error) {
	//lint:ignore SA1019 there is no other way to learn the hosts of the CDN
	conn, err := c.account.client.DangerousInternals().RefreshMediaConn(ctx, false)
	if err != nil {
		return nil, err
	}
	if len(conn.Hosts) == 0 {
		return nil, errors.New("WhatsApp names no host of its CDN")
	}
	kind := ""
	for directory, name := range mediaTypes {
		if strings.Contains(path, directory) {
			kind = name
		}
	}
	address := fmt.Sprintf("https://%s%s&hash=%s&mms-type=%s&__wa-mms=", conn.Hosts[0].Hostname, path,
		base64.URLEncoding.EncodeToString(hash), cmp.Or(kind, "image"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the path is none")
	}
	req.Header.Set("Origin", "https://web.whatsapp.com")
	req.Header.Set("Referer", "https://web.whatsapp.com/")
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, errors.New("the CDN cannot be reached")
	}
	return resp, nil
}

// look returns what the CDN says of a path. A part of the file counts as 200.
func (c *cdn) look(ctx context.Context, path string, hash []byte) (status, error) {
	resp, err := c.request(ctx, path, hash, "bytes=0-0")
	if err != nil {
		return status{}, err
	}
	defer resp.Body.Close()
	s := status{At: time.Now(), Status: resp.StatusCode}
	switch {
	case s.Status == http.StatusPartialContent:
		s.Status = http.StatusOK
	case s.Status == http.StatusForbidden:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		s.SaysExpired = strings.Contains(string(body), "URL signature expired")
	}
	return s, nil
}

// compare reports whether the encrypted file under a path is the right one: "yes", "no", or "" if
// that could not be found out. It is not decrypted.
func (c *cdn) compare(ctx context.Context, path string, hash []byte) string {
	resp, err := c.request(ctx, path, hash, "")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength > largestFile {
		return ""
	}
	sum := sha256.New()
	if n, err := io.Copy(sum, io.LimitReader(resp.Body, largestFile+1)); err != nil || n > largestFile {
		return ""
	}
	if string(sum.Sum(nil)) != string(hash) {
		return "no"
	}
	return "yes"
}
