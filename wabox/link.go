package wabox

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// firstDevice is the number of the first device that is linked to an account. The phone
// is device 0.
const firstDevice = 3

// A linked is what the server knows of the device that is linked to an account.
type linked struct {
	id, lid types.JID
	noise   [32]byte
}

// NewAccount makes an account with its own phone number and LID, and a device as pairing leaves
// it, in memory.
func (b *Box) NewAccount() *Account { return b.Pair(NewDevice()) }

// NewPhone makes an account that no device is linked to yet, for clients that are linked as users
// do it: by QR code, see [Account.Scan], or by linking code, see [Account.EnterCode]. Its Device is
// nil until [Account.NewClient] makes one.
func (b *Box) NewPhone() *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, lid := b.newAddresses()
	a := b.addAccount(id, lid)
	a.unlinked = true
	return a
}

// Pair makes an account for a device made elsewhere, such as one of whatsmeow's sqlstore. It fills
// in what pairing does, and keys that are missing; the caller saves it, and makes its client only
// then, for whatsmeow looks whether it is paired when a client is made. A device that has
// addresses, from another box or because it is a second one of an account, keeps them. A second
// device is an Account of its own, with a phone that answers for itself.
func (b *Box) Pair(dev *store.Device) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, lid := b.newAddresses()
	if dev.ID != nil {
		id = *dev.ID
	}
	if !dev.LID.IsEmpty() {
		lid = dev.LID
	}
	pair(dev, id, lid)
	a := b.addAccount(id, lid)
	a.Device = dev
	a.signal.setClient(clientKeys{
		identity: *dev.IdentityKey.Pub, registration: dev.RegistrationID, device: uint32(id.Device),
		signedID: dev.SignedPreKey.KeyID, signed: *dev.SignedPreKey.Pub, signature: *dev.SignedPreKey.Signature,
	})
	a.linked.Store(&linked{id, lid, *dev.NoiseKey.Pub})
	return a
}

// addAccount makes an account that is not linked. b.mu is held.
func (b *Box) addAccount(id, lid types.JID) *Account {
	a := &Account{
		PN: id.ToNonAD(), LID: lid.ToNonAD(), box: b, index: len(b.accounts),
		originals: make(map[originalKey]*original), changed: make(chan struct{}),
	}
	b.people.link(id, lid)
	a.signal.init(a.PN, a.LID)
	a.phone.init(a)
	b.accounts = append(b.accounts, a)
	return a
}

// newAddresses returns the phone number and LID of a device of a new account. b.mu is held.
func (b *Box) newAddresses() (id, lid types.JID) {
	for n := len(b.accounts) + 1; ; n++ {
		id = types.JID{User: fmt.Sprintf("1555%07d", n), Device: firstDevice, Server: types.DefaultUserServer}
		lid = types.JID{User: fmt.Sprintf("1000%011d", n), Device: firstDevice, Server: types.HiddenUserServer}
		if !slices.ContainsFunc(b.accounts, func(a *Account) bool { return a.PN.User == id.User }) {
			return id, lid
		}
	}
}

func pair(dev *store.Device, id, lid types.JID) {
	if dev.NoiseKey == nil {
		dev.NoiseKey = keys.NewKeyPair()
	}
	if dev.IdentityKey == nil {
		dev.IdentityKey = keys.NewKeyPair()
	}
	if dev.SignedPreKey == nil {
		dev.SignedPreKey = dev.IdentityKey.CreateSignedPreKey(1)
	}
	if len(dev.AdvSecretKey) == 0 {
		dev.AdvSecretKey = randomBytes(32)
	}
	dev.ID, dev.LID = &id, lid
	dev.Platform = "android"
	dev.PushName = "WhatsApp in a box"
	dev.Account = &waAdv.ADVSignedDeviceIdentity{
		Details:             randomBytes(16),
		AccountSignatureKey: randomBytes(32),
		AccountSignature:    randomBytes(64),
		DeviceSignature:     randomBytes(64),
	}
	if dev.LIDs != nil { // an sqlstore gives a device its stores when it is saved first
		_ = dev.LIDs.PutLIDMapping(context.Background(), lid, id)
	}
}

// ownerOf returns the account that a device belongs to, or nil if there is none with its
// address and key.
func (b *Box) ownerOf(user uint64, device uint32, noise []byte) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.accounts {
		if l := a.linked.Load(); l != nil && l.id.User == strconv.FormatUint(user, 10) && uint32(l.id.Device) == device {
			if bytes.Equal(noise, l.noise[:]) {
				return a
			}
			return nil
		}
	}
	return nil
}

// named returns the account that a websocket says it is for, or nil.
func (b *Box) named(header string) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i, err := strconv.Atoi(header); err == nil && i >= 0 && i < len(b.accounts) {
		return b.accounts[i]
	}
	return nil
}

// linkDevice links a device to the account, in place of an earlier one.
func (a *Account) linkDevice(noise [32]byte, client clientKeys, id, lid types.JID) {
	client.device = uint32(id.Device)
	a.signal.setClient(client)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.linked.Store(&linked{id, lid, noise})
	a.unlinked = false
}

// nextDevice returns the addresses of the next device that is linked to the account, or an error if
// it has one.
func (a *Account) nextDevice() (id, lid types.JID, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.unlinked {
		return id, lid, errLinked
	}
	id, lid = a.PN, a.LID
	id.Device = firstDevice
	if l := a.linked.Load(); l != nil {
		id.Device = l.id.Device + 1
	}
	lid.Device = id.Device
	return id, lid, nil
}
