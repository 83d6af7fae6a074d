package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state/turnstile"
)

// handle is one opening of the file for one transaction.
type handle struct {
	path string
	file *os.File // locked; bbolt's once db is set
	tree *tree    // the file as it was; nil when it is being made
	db   *bbolt.DB
	tx   *bbolt.Tx
	lost bool // bbolt panicked inside itself: its close may not be trusted
}

// open checks the file and begins the transaction.
func (h *handle) open(write bool) error {
	if err := h.check(); err != nil {
		return err
	}
	return h.begin(write)
}

// begin hands the file to bbolt, which fills an empty one.
func (h *handle) begin(write bool) error {
	return h.guard(func() (err error) {
		if h.db, err = bbolt.Open(h.path, 0o600, options(h.file, write)); err != nil {
			if _, ok := errors.AsType[unix.Errno](err); ok {
				return turnstile.Fault("open state", h.path, err)
			}
			return turnstile.Damaged(h.path, err)
		}
		h.tx, err = h.db.Begin(write)
		return err
	})
}

// end commits a write.
func (h *handle) end(write bool) error {
	if !write {
		return nil
	}
	return h.guard(func() error {
		tx, id := h.tx, uint64(h.tx.ID())
		h.tx = nil // Commit ends it, also when it fails
		err := tx.Commit()
		if err == nil {
			reserve(h.file)
			return nil
		}
		if back := h.takeBack(id); back != nil {
			err = fmt.Errorf("%w; whether it holds the change is not certain: %w", err, back)
		}
		// bbolt tells as text only why the file could not grow; that
		// is a limit or the disk, never the request.
		if _, ok := errors.AsType[unix.Errno](err); !ok {
			return cove.E("write state", h.path, cove.Unavailable, err)
		}
		return turnstile.Fault("write state", h.path, err)
	})
}

// takeBack makes a transaction whose commit has failed one that has not been.
// Its meta page may stand in the file, when only the sync after it has failed,
// and would be believed by whoever comes next. The other one tells how the file
// was, of which nothing has been written over.
func (h *handle) takeBack(txid uint64) error {
	if h.tree == nil {
		return nil // it is being made, and has no name
	}
	at, other := int64(txid%2)*h.tree.page, int64((txid+1)%2)*h.tree.page
	if m, err := h.readMeta(at); err != nil || m == nil || m.txid != txid {
		return err
	}
	if m, err := h.readMeta(other); err != nil || m == nil {
		return errors.Join(err, errors.New("its other header is not whole"))
	}
	if _, err := h.file.WriteAt(make([]byte, metaEnd-metaSum), at+metaSum); err != nil {
		return err
	}
	// As far as the disk takes it: those who come next read it from memory.
	_ = unix.Fdatasync(int(h.file.Fd()))
	return nil
}

// reserve fills the holes that growing has left in the file, so that on a full
// disk there is room to record a removal. Where that cannot be done, it is not.
func reserve(file *os.File) {
	var st unix.Stat_t
	if unix.Fstat(int(file.Fd()), &st) != nil {
		return
	}
	const most = 64 << 20 // more is no growing of bbolt's
	if holes := st.Size - st.Blocks*512; holes > 0 && holes <= most {
		_ = unix.Fallocate(int(file.Fd()), 0, 0, st.Size)
	}
}

// close rolls back what has not been committed, unlocks and closes.
func (h *handle) close() error {
	var err error
	if h.tree != nil {
		err = h.tree.close()
	}
	if h.tx != nil && !h.lost {
		tx := h.tx
		h.tx = nil
		err = errors.Join(err, h.guard(tx.Rollback))
	}
	if h.db != nil && !h.lost {
		if h.db.IsReadOnly() {
			// bbolt would leave that to the closing, which a process
			// being forked can delay.
			_ = unix.Flock(int(h.file.Fd()), unix.LOCK_UN)
		}
		return errors.Join(err, h.guard(h.db.Close))
	}
	// bbolt never got, or lost, the file. A mapping it left behind keeps
	// the open file alive, so closing alone would not unlock.
	_ = unix.Flock(int(h.file.Fd()), unix.LOCK_UN)
	_ = h.file.Close() // bbolt may have closed it already
	return err
}

// guard turns bbolt's panics, which are how it meets damage, into errors.
func (h *handle) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.lost = true
			err = turnstile.Damaged(h.path, fmt.Errorf("%v", p))
		}
	}()
	return f()
}

// The fields of bbolt's meta page that check needs: after the page's header
// magic, version, page size, flags (4 bytes each), root page, sequence, free
// list, high-water page, transaction, and FNV-1a checksum of what precedes it
// (8 each), in the machine's byte order.
const (
	metaMagic = 0xED0CDAED
	metaStart = pageHead
	metaSum   = metaStart + 56
	metaEnd   = metaSum + 8
)

type meta struct {
	page, root, free, pages, txid uint64
}

// readMeta gives the meta page at a place; nil when there is no whole one.
func (h *handle) readMeta(at int64) (*meta, error) {
	var b [metaEnd]byte
	if _, err := h.file.ReadAt(b[:], at); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, turnstile.Fault("open state", h.path, err)
	}
	n := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[metaStart:metaSum])
	if n.Uint32(b[metaStart:]) != metaMagic || sum.Sum64() != n.Uint64(b[metaSum:]) {
		return nil, nil
	}
	at8 := func(i int) uint64 { return n.Uint64(b[metaStart+i:]) }
	return &meta{page: uint64(n.Uint32(b[metaStart+8:])), root: at8(16), free: at8(32), pages: at8(40), txid: at8(48)}, nil
}

// check refuses a file that is shorter than its meta page says, or that has
// no whole meta page, before bbolt maps and trusts it.
func (h *handle) check() error {
	info, err := h.file.Stat()
	if err != nil {
		return turnstile.Fault("open state", h.path, err)
	}
	newest, err := h.readMeta(0)
	if err != nil {
		return err
	}
	// The second meta page begins where the first ends.
	second := []int64{4 << 10, 16 << 10, 64 << 10}
	if newest != nil {
		second = []int64{int64(newest.page)}
	}
	for _, at := range second {
		m, err := h.readMeta(at)
		if err != nil {
			return err
		}
		if m != nil && uint64(at) == m.page && (newest == nil || m.txid > newest.txid) {
			newest = m
		}
	}
	switch {
	case newest == nil:
		return turnstile.Damaged(h.path, fmt.Errorf("no valid header in its %d bytes", info.Size()))
	case newest.page < 1<<10 || newest.page > 64<<10 || newest.pages < 4 || newest.pages > math.MaxInt64/newest.page:
		return turnstile.Damaged(h.path, errors.New("its header makes no sense"))
	case uint64(info.Size())/newest.page < newest.pages:
		return turnstile.Damaged(h.path, fmt.Errorf("truncated: %d bytes of at least %d", info.Size(), newest.pages*newest.page))
	}
	page, pages := int64(newest.page), int64(newest.pages)
	free, err := h.readFree(int64(newest.free), pages, page)
	if err != nil {
		return err
	}
	if h.tree, err = mapTree(int(h.file.Fd()), page, pages, newest.root, free); err != nil {
		return turnstile.Fault("open state", h.path, err)
	}
	return nil
}

// readFree reads the list of free pages. One that names pages beyond the end
// is refused: bbolt would write there. The numbers follow the page's header;
// with a count of 0xFFFF the first of them is the count.
func (h *handle) readFree(at, pages, page int64) ([]uint64, error) {
	if at < 2 || at >= pages {
		return nil, turnstile.Damaged(h.path, errors.New("its list of free pages is nowhere"))
	}
	n := binary.NativeEndian
	var head [pageHead + 8]byte
	if _, err := h.file.ReadAt(head[:], at*page); err != nil {
		return nil, turnstile.Fault("open state", h.path, err)
	}
	count, first, more := int64(n.Uint16(head[10:])), int64(pageHead), int64(n.Uint32(head[12:]))
	if count == 0xFFFF {
		count, first = int64(n.Uint64(head[pageHead:])), first+8
	}
	const list = 0x10
	if int64(n.Uint64(head[:])) != at || n.Uint16(head[8:]) != list || more >= pages-at || count < 0 || count > ((more+1)*page-first)/8 {
		return nil, turnstile.Damaged(h.path, errors.New("its list of free pages is no such list"))
	}
	raw := make([]byte, 8*count)
	if _, err := h.file.ReadAt(raw, at*page+first); err != nil {
		return nil, turnstile.Fault("open state", h.path, err)
	}
	free := make([]uint64, count)
	last := uint64(1)
	for i := range free {
		free[i] = n.Uint64(raw[8*i:])
		if free[i] <= last || free[i] >= uint64(pages) {
			return nil, turnstile.Damaged(h.path, fmt.Errorf("its list of free pages names page %d of %d", free[i], pages))
		}
		last = free[i]
	}
	return free, nil
}
