package main

import (
	"context"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/store"
)

// roundRegularly keeps the accounts shared fairly with the other processes, until the gateway ends.
func (g *gateway) roundRegularly() {
	ticker := time.NewTicker(g.leases.times.beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-g.leases.lost:
			return
		case <-g.running.Done():
			return
		}
		ctx, cancel := context.WithTimeout(g.running, 2*statementTime)
		if err := g.round(ctx); err != nil && g.running.Err() == nil && g.leases.fence.holds() {
			g.log.Warn("The accounts could not be shared; it is tried again", "error", err)
		}
		cancel()
	}
}

// loseAll stops all clients as soon as the leases are lost. Their gates let nothing through since
// then; this ends their connections as well.
func (g *gateway) loseAll() {
	select {
	case <-g.leases.lost:
	case <-g.running.Done():
		return
	}
	for _, a := range g.here() {
		a.gate.shut()
	}
	g.log.Error("The leases of all accounts are lost: the database was away for too long, or this process was paused")
}

// seldom is how often something is done that is not urgent: once a minute.
func (t leaseTimes) seldom() time.Duration { return 60 * t.beat }

// round frees the accounts of dead processes, takes and gives what is fair, and tells the others in
// what state the accounts are that are here.
func (g *gateway) round(ctx context.Context) error {
	if err := g.know(ctx); err != nil {
		return err
	}
	here := g.here() // before the table is read
	present, err := g.leases.read(ctx)
	if err != nil {
		return err
	}
	if dead, untils := g.leases.dead(); len(dead) > 0 {
		if err = g.leases.bury(ctx, dead, untils); err != nil {
			return err
		}
		if present, err = g.leases.read(ctx); err != nil {
			return err
		}
	}
	g.stopStrays(here, present)
	g.warnOfTwins(present)
	if err = g.tellChanges(ctx, present); err != nil {
		return err
	}
	take, give := decide(g.leases.process, present.processes, present.leases, g.leaving(present))
	for _, l := range present.leases { // or what was taken when the answer was lost
		if l.process == g.leases.process {
			take = append(take, l.account)
		}
	}
	if err = g.start(ctx, take); err != nil {
		return err
	}
	g.giveSome(give)
	return nil
}

// know adds the accounts that have a session and no row, as all have in the beginning.
func (g *gateway) know(ctx context.Context) error {
	if !g.known.IsZero() && time.Since(g.known) < g.leases.times.seldom() {
		return nil
	}
	devices, err := g.sessions.GetAllDevices(ctx)
	if err != nil {
		return err
	}
	if err = g.leases.know(ctx, phonesOf(devices)); err != nil {
		return err
	}
	g.known = time.Now()
	return nil
}

// stopStrays stops the accounts that are here, and whose leases are not: somebody has changed the
// table by hand, or brought back an old one.
func (g *gateway) stopStrays(here map[string]*account, present board) {
	for phone, a := range here {
		if l, _ := present.of(phone); l.process == g.leases.process {
			continue
		}
		g.mu.Lock()
		stray := g.accounts[phone] == a && g.busy[phone] == ""
		if stray {
			delete(g.accounts, phone)
			g.busy[phone] = giving
		}
		g.mu.Unlock()
		if stray {
			g.log.Error("The lease of an account has gone, although this gateway did not give it", "account", phone)
			a.gate.shut()
			g.background.Go(func() {
				defer g.unreserve(phone)
				a.close()
			})
		}
	}
}

// warnOfTwins says when another process gives the same URL: requests would come back. The row of
// one that was killed goes soon.
func (g *gateway) warnOfTwins(present board) {
	for process, url := range present.urls {
		if process == g.leases.process || url != g.cfg.peerURL {
			continue
		}
		switch first, seen := g.twins[process]; {
		case !seen:
			g.twins[process] = time.Now()
		case !first.IsZero() && time.Since(first) > 2*g.leases.times.life:
			g.twins[process] = time.Time{} // and says no more
			g.log.Error("Another gateway is said to be at the URL of this one; set -peer-url", "url", url)
		}
	}
}

// leaving returns how many of the accounts that the board has as this process's it gives already.
func (g *gateway) leaving(present board) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for phone, what := range g.busy {
		if l, _ := present.of(phone); what == giving && l.process == g.leases.process {
			n++
		}
	}
	return n
}

func (g *gateway) tellChanges(ctx context.Context, present board) error {
	changed := slices.DeleteFunc(g.own(), func(state accountState) bool {
		l, ok := present.of(state.Account)
		return !ok || l.linked == state.Linked && l.connected == state.Connected
	})
	if len(changed) == 0 {
		return nil
	}
	return g.leases.tell(ctx, changed)
}

// An activity is why this process has a lease of an account that is not here.
type activity string

const (
	starting activity = "starting"
	linking  activity = "linking"
	giving   activity = "giving"
)

// reserve keeps an account for one activity. It reports false if there is one already, or if the
// account is here and to be started.
func (g *gateway) reserve(phone string, what activity) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[phone] != "" || g.accounts[phone] != nil && what == starting {
		return false
	}
	g.busy[phone] = what
	return true
}

func (g *gateway) unreserve(phone string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, phone)
}

// start takes accounts that are free or this process's already, makes their clients, and begins to
// connect them. They are reserved first, so that none can be given away between, and their sessions
// are read last, as another process has written to them.
func (g *gateway) start(ctx context.Context, phones []string) error {
	phones = slices.DeleteFunc(phones, func(phone string) bool { return !g.reserve(phone, starting) })
	if len(phones) == 0 {
		return nil
	}
	defer func() {
		for _, phone := range phones {
			g.unreserve(phone)
		}
	}()
	taken, err := g.leases.take(ctx, phones)
	if err != nil || len(taken) == 0 {
		return err
	}
	devices, err := g.sessions.GetAllDevices(ctx)
	if err != nil {
		return err
	}
	for _, device := range devices {
		if device.ID == nil || taken[device.ID.User] == 0 {
			continue
		}
		a, err := g.newAccount(device)
		if err != nil {
			return err
		}
		a.term = taken[device.ID.User]
		a.client.InitialAutoReconnect = true
		g.add(a.phone(), a)
		g.connect(a)
	}
	for phone, term := range taken {
		if g.account(phone) == nil {
			if err = g.leases.forget(ctx, phone, term); err != nil { // it has no session any more
				return err
			}
		}
	}
	return nil
}

// connect begins to connect an account. One that WhatsApp is slow to answer does not keep the
// others waiting.
func (g *gateway) connect(a *account) {
	g.background.Go(func() {
		select {
		case g.connects <- struct{}{}:
		case <-g.running.Done():
			return
		}
		defer func() { <-g.connects }()
		err := a.client.Connect()
		if g.running.Err() != nil {
			a.client.Disconnect()
		} else if err != nil && a.gate.isOpen() { // not a missing network, which whatsmeow retries by itself
			g.log.Error("An account does not connect; it is tried again in a minute", "account", a.phone(), "error", err)
			g.background.Go(func() { g.connectAgain(a) })
		}
	})
}

// connectAgain connects an account that WhatsApp did not let connect, or whose connection it has
// ended for another one. The lease is here: the other one is a process that was stopped in the
// moment in which it sent something, or no gateway.
func (g *gateway) connectAgain(a *account) {
	select {
	case <-time.After(g.leases.times.seldom()):
	case <-g.running.Done():
		return
	}
	if a.gate.isOpen() && !a.online.Load() && !a.unlinked.Load() {
		a.client.Disconnect() // from what is left of the old connection
		g.connect(a)
	}
}

// giveSome hands accounts over to processes that have fewer. One for which a request runs is left
// alone; it goes in a later round.
func (g *gateway) giveSome(n int) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for phone, a := range g.accounts {
		if n == 0 {
			return
		}
		if g.busy[phone] != "" || !a.retire() {
			continue
		}
		n--
		delete(g.accounts, phone)
		g.busy[phone] = giving
		g.background.Go(func() { g.hand(phone, a) })
	}
}

// hand closes an account and frees it.
func (g *gateway) hand(phone string, a *account) {
	defer g.unreserve(phone)
	a.close()
	for g.leases.fence.holds() {
		ctx, cancel := context.WithTimeout(g.root, statementTime)
		err := g.leases.give(ctx, phone, a.term)
		cancel()
		if err == nil {
			g.log.Info("Handed an account over", "account", phone)
			return
		}
		select {
		case <-time.After(g.leases.times.beat):
		case <-g.running.Done(): // and with all others
			return
		}
	}
}

func phonesOf(devices []*store.Device) []string {
	var phones []string
	for _, device := range devices {
		if device.ID != nil {
			phones = append(phones, device.ID.User)
		}
	}
	return phones
}
