package reupload

import "sync"

// paths is what this process knows of where files are: where the file of a dead path is now, and
// which paths do not lead to their file. A path counts together with the hash of the file that
// should be there, because the sender of a message chooses its path, and another file with the same
// hash does not exist.
type paths struct {
	mu    sync.RWMutex
	moves *bounded[location, string]
	bad   *bounded[location, bool]
	fresh *bounded[location, int] // how often a path that the phone has named may yet give another file
}

// How much is kept. An entry has some hundred bytes, and 4 KiB at most.
const (
	maxMoves = 8192
	maxBad   = 4096
)

// freshDoubts is how often a path that the phone has named may give another file before it is bad.
const freshDoubts = 3

func newPaths() *paths {
	return &paths{moves: newBounded[location, string](maxMoves), bad: newBounded[location, bool](maxBad), fresh: newBounded[location, int](maxBad)}
}

// movedTo returns where the file of a dead path is now, or "". It allocates nothing.
func (p *paths) movedTo(dead location) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.moves.get(dead)
}

// move remembers where the file of a dead path is now.
func (p *paths) move(dead location, path string) {
	if dead.path.size() > maxDirectPath || dead.path.String() == path {
		return
	}
	dead = dead.clone() // it is a part of a URL
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves.set(dead, path)
}

// unmove forgets where the file of a dead path is, because it is not there.
func (p *paths) unmove(dead location) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves.remove(dead)
}

// spoil remembers that a path does not lead to its file.
func (p *paths) spoil(l location) {
	if l.path.size() > maxDirectPath {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad.set(l.clone(), true)
}

// named notes that the phone has just named a path, which is then tried even if it was bad before.
func (p *paths) named(l location) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad.remove(l)
	if l.path.size() <= maxDirectPath {
		p.fresh.set(l.clone(), freshDoubts)
	}
}

// doubt notes that a whole download from a path has given another file, and reports whether the
// path is bad. One that the phone has just named can be late on the CDN. Small files are tried
// again before the caller gets them.
func (p *paths) doubt(l location) (isBad bool) {
	p.mu.Lock()
	n := p.fresh.get(l)
	if n > 0 {
		p.fresh.set(l.clone(), n-1)
	}
	p.mu.Unlock()
	if n == 0 {
		p.spoil(l)
	}
	return n == 0
}

func (p *paths) isBad(l location) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.bad.get(l)
}
