package wabox

import (
	"context"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

func (m *memoryStore) PutLIDMapping(_ context.Context, lid, pn types.JID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putLID(lid, pn)
	return nil
}

func (m *memoryStore) PutManyLIDMappings(_ context.Context, mappings []store.LIDMapping) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mapping := range mappings {
		m.putLID(mapping.LID, mapping.PN)
	}
	return nil
}

func (m *memoryStore) putLID(lid, pn types.JID) {
	if lid.Server == types.HiddenUserServer && pn.Server == types.DefaultUserServer {
		delete(m.pns, m.lids[pn.User])
		m.lids[pn.User], m.pns[lid.User] = lid.User, pn.User
	}
}

// GetLIDForPN returns the LID of the same device, or an empty one if it is not known.
func (m *memoryStore) GetLIDForPN(_ context.Context, pn types.JID) (types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if lid, ok := m.lids[pn.User]; ok {
		return types.JID{User: lid, Device: pn.Device, Server: types.HiddenUserServer}, nil
	}
	return types.EmptyJID, nil
}

func (m *memoryStore) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	found := make(map[types.JID]types.JID, len(pns))
	for _, pn := range pns {
		if lid, _ := m.GetLIDForPN(ctx, pn); !lid.IsEmpty() {
			found[pn] = lid
		}
	}
	return found, nil
}

// GetPNForLID returns the phone number of the same device, or an empty one if it is not known.
func (m *memoryStore) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pn, ok := m.pns[lid.User]; ok {
		return types.JID{User: pn, Device: lid.Device, Server: types.DefaultUserServer}, nil
	}
	return types.EmptyJID, nil
}
