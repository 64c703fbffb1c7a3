package wabox

import (
	"cmp"
	"context"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// maxPreKeys bounds how many one-time prekeys a device in memory makes at a time. A first upload
// has 812 of them on the real WhatsApp, which would be most of the time that a login takes; the box
// uses one for each contact that writes.
const maxPreKeys = 64

// NewDevice returns a device that is not yet paired, and has all of its stores in memory.
func NewDevice() *store.Device {
	memory := &memoryStore{
		identities: make(map[string][32]byte),
		sessions:   make(map[string][]byte),
		preKeys:    make(map[uint32]*memoryPreKey),
		senderKeys: make(map[senderKeyID][]byte),
		secrets:    make(map[secretID][]byte),
		lids:       make(map[string]string),
		pns:        make(map[string]string),
	}
	device := &store.Device{
		Log:            waLog.Noop,
		NoiseKey:       keys.NewKeyPair(),
		IdentityKey:    keys.NewKeyPair(),
		RegistrationID: mathrand.Uint32(),
		AdvSecretKey:   randomBytes(32),
		Initialized:    true,
		LIDs:           memory,
		Container:      memory,
	}
	device.SignedPreKey = device.IdentityKey.CreateSignedPreKey(1)
	device.SetAllStores(memory)
	return device
}

// A memoryStore keeps what a client needs for receiving: its Signal state, message secrets and
// LIDs. The rest, which is contacts, app state, privacy tokens and the buffer of decrypted
// events, it forgets.
type memoryStore struct {
	store.NoopStore

	mu         sync.Mutex
	identities map[string][32]byte
	sessions   map[string][]byte
	preKeys    map[uint32]*memoryPreKey
	lastPreKey uint32
	senderKeys map[senderKeyID][]byte
	secrets    map[secretID][]byte
	lids       map[string]string // phone number → LID, users only
	pns        map[string]string // LID → phone number
}

type memoryPreKey struct {
	key      *keys.PreKey
	uploaded bool
}

type senderKeyID struct{ group, user string }

type secretID struct {
	chat, sender types.JID
	id           types.MessageID
}

var (
	_ store.AllStores       = (*memoryStore)(nil)
	_ store.DeviceContainer = (*memoryStore)(nil)
)

func (m *memoryStore) PutIdentity(_ context.Context, address string, key [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identities[address] = key
	return nil
}

func (m *memoryStore) DeleteAllIdentities(_ context.Context, user string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	deleteUser(m.identities, user)
	return nil
}

func (m *memoryStore) DeleteIdentity(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.identities, address)
	return nil
}

// IsTrustedIdentity trusts an identity that it sees for the first time.
func (m *memoryStore) IsTrustedIdentity(_ context.Context, address string, key [32]byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.identities[address]
	return !ok || known == key, nil
}

func (m *memoryStore) GetSession(_ context.Context, address string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[address], nil
}

func (m *memoryStore) HasSession(_ context.Context, address string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.sessions[address]
	return ok, nil
}

// GetManySessions has an entry in its result for each address, which is nil where there
// is no session.
func (m *memoryStore) GetManySessions(_ context.Context, addresses []string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[string][]byte, len(addresses))
	for _, address := range addresses {
		found[address] = m.sessions[address]
	}
	return found, nil
}

func (m *memoryStore) PutSession(_ context.Context, address string, session []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[address] = session
	return nil
}

func (m *memoryStore) PutManySessions(_ context.Context, sessions map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.sessions, sessions)
	return nil
}

func (m *memoryStore) DeleteAllSessions(_ context.Context, user string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	deleteUser(m.sessions, user)
	return nil
}

func (m *memoryStore) DeleteSession(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, address)
	return nil
}

// MigratePNToLID moves what is known under a phone number to a LID, over what was there.
func (m *memoryStore) MigratePNToLID(_ context.Context, pn, lid types.JID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := pn.SignalAddressUser(), lid.SignalAddressUser()
	moveUser(m.sessions, from, to)
	moveUser(m.identities, from, to)
	for id, key := range m.senderKeys {
		if device, ok := strings.CutPrefix(id.user, from+":"); ok {
			delete(m.senderKeys, id)
			m.senderKeys[senderKeyID{id.group, to + ":" + device}] = key
		}
	}
	return nil
}

// deleteUser deletes all devices of a user from a map by Signal address, which is USER:DEVICE.
func deleteUser[V any](byAddress map[string]V, user string) {
	maps.DeleteFunc(byAddress, func(address string, _ V) bool { return strings.HasPrefix(address, user+":") })
}

func moveUser[V any](byAddress map[string]V, from, to string) {
	for address, value := range byAddress {
		if device, ok := strings.CutPrefix(address, from+":"); ok {
			delete(byAddress, address)
			byAddress[to+":"+device] = value
		}
	}
}

// GetOrGenPreKeys may return fewer keys than the caller wants.
func (m *memoryStore) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*keys.PreKey
	for _, preKey := range m.preKeys {
		if !preKey.uploaded {
			found = append(found, preKey.key)
		}
	}
	slices.SortFunc(found, func(a, b *keys.PreKey) int { return cmp.Compare(a.KeyID, b.KeyID) })
	for uint32(len(found)) < min(count, maxPreKeys) {
		found = append(found, m.newPreKey(false))
	}
	return found, nil
}

func (m *memoryStore) GenOnePreKey(context.Context) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newPreKey(true), nil
}

func (m *memoryStore) newPreKey(uploaded bool) *keys.PreKey {
	m.lastPreKey++
	key := &keys.PreKey{KeyPair: preKeyPair(m.lastPreKey), KeyID: m.lastPreKey}
	m.preKeys[key.KeyID] = &memoryPreKey{key: key, uploaded: uploaded}
	return key
}

// preKeyPairs are what the one-time prekeys of all devices in memory are made of. To make new ones
// for each device would still be most of the time that a login takes.
var preKeyPairs struct {
	mu   sync.Mutex
	made [1024]*keys.KeyPair
}

func preKeyPair(id uint32) keys.KeyPair {
	preKeyPairs.mu.Lock()
	defer preKeyPairs.mu.Unlock()
	pair := &preKeyPairs.made[id%uint32(len(preKeyPairs.made))]
	if *pair == nil {
		*pair = keys.NewKeyPair()
	}
	return **pair
}

func (m *memoryStore) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if preKey, ok := m.preKeys[id]; ok {
		return preKey.key, nil
	}
	return nil, nil
}

func (m *memoryStore) RemovePreKey(_ context.Context, id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.preKeys, id)
	return nil
}

func (m *memoryStore) MarkPreKeysAsUploaded(_ context.Context, upToID uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, preKey := range m.preKeys {
		preKey.uploaded = preKey.uploaded || id <= upToID
	}
	return nil
}

func (m *memoryStore) UploadedPreKeyCount(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := 0
	for _, preKey := range m.preKeys {
		if preKey.uploaded {
			count++
		}
	}
	return count, nil
}

func (m *memoryStore) PutSenderKey(_ context.Context, group, user string, session []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.senderKeys[senderKeyID{group, user}] = session
	return nil
}

func (m *memoryStore) GetSenderKey(_ context.Context, group, user string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.senderKeys[senderKeyID{group, user}], nil
}

func (m *memoryStore) PutMessageSecrets(_ context.Context, inserts []store.MessageSecretInsert) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, insert := range inserts {
		m.secrets[secretID{insert.Chat.ToNonAD(), insert.Sender.ToNonAD(), insert.ID}] = insert.Secret
	}
	return nil
}

func (m *memoryStore) PutMessageSecret(_ context.Context, chat, sender types.JID, id types.MessageID, secret []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[secretID{chat.ToNonAD(), sender.ToNonAD(), id}] = secret
	return nil
}

func (m *memoryStore) GetMessageSecret(_ context.Context, chat, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets[secretID{chat.ToNonAD(), sender.ToNonAD(), id}], sender, nil
}

// DeleteExpiredPrivacyTokens has none to delete. But whatsmeow empties a device that is logged out,
// after DeleteDevice and without a lock, and a goroutine of the same client calls this: the lock
// here and there orders the two.
func (m *memoryStore) DeleteExpiredPrivacyTokens(context.Context, time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 0, nil
}

// DeleteDevice does nothing but what is said at DeleteExpiredPrivacyTokens.
func (m *memoryStore) DeleteDevice(context.Context, *store.Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return nil
}
