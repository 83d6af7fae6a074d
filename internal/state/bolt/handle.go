package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// handle is one opening of the file for one transaction.
type handle struct {
	path  string
	file  *os.File // locked; bbolt's once db is set
	fresh bool     // being made: empty until bbolt fills it
	db    *bbolt.DB
	tx    *bbolt.Tx
	size  int64 // of the file when it was opened; 0 when fresh
	lost  bool  // bbolt panicked inside itself: its close may not be trusted
}

// open hands the file to bbolt and begins the transaction.
func (h *handle) open(write bool) error {
	if !h.fresh {
		if err := h.check(); err != nil {
			return err
		}
	}
	return h.guard(func() (err error) {
		if h.db, err = bbolt.Open(h.path, 0o600, options(h.file, write)); err != nil {
			if _, ok := errors.AsType[unix.Errno](err); ok {
				return fault("open state", h.path, err)
			}
			return damaged(h.path, err)
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
		tx := h.tx
		h.tx = nil // Commit ends it, also when it fails
		err := tx.Commit()
		if err == nil {
			reserve(h.file)
			return nil
		}
		// bbolt tells as text only why the file could not grow; that
		// is a limit or the disk, never the request.
		if _, ok := errors.AsType[unix.Errno](err); !ok {
			return cove.E("write state", h.path, cove.Unavailable, err)
		}
		return fault("write state", h.path, err)
	})
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
	if h.tx != nil && !h.lost {
		tx := h.tx
		h.tx = nil
		err = h.guard(tx.Rollback)
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
			err = damaged(h.path, fmt.Errorf("%v", p))
		}
	}()
	return f()
}

// damaged is the error for a file that is not a whole store.
func damaged(path string, cause error) error {
	return cove.E("open state", path, cove.Internal, fmt.Errorf(
		"the file is damaged and has been left as it is (%w): put a copy back, or move it away (mv %s %s.damaged) to begin with an empty store",
		cause, path, path))
}

// The fields of bbolt's meta page that check needs: after the page's header of
// 16 bytes magic, version, page size, flags (4 bytes each), root (16), free
// list, high-water page, transaction, and FNV-1a checksum of what precedes
// it (8 each), in the machine's byte order.
const (
	metaMagic = 0xED0CDAED
	metaStart = 16
	metaSum   = metaStart + 56
	metaEnd   = metaSum + 8
)

// check refuses a file that is shorter than its meta page says, or that has
// no whole meta page, before bbolt maps and trusts it.
func (h *handle) check() error {
	info, err := h.file.Stat()
	if err != nil {
		return fault("open state", h.path, err)
	}
	h.size = info.Size()
	page := int64(os.Getpagesize())
	var newest uint64
	var pages, free int64 = -1, 0
	for _, at := range []int64{0, page} {
		var b [metaEnd]byte
		if _, err := h.file.ReadAt(b[:], at); err != nil {
			if errors.Is(err, io.EOF) {
				continue
			}
			return fault("open state", h.path, err)
		}
		e := binary.NativeEndian
		sum := fnv.New64a()
		sum.Write(b[metaStart:metaSum])
		if e.Uint32(b[metaStart:]) != metaMagic || sum.Sum64() != e.Uint64(b[metaSum:]) {
			continue
		}
		if size := int64(e.Uint32(b[metaStart+8:])); size != page {
			return nil // made on a machine with other pages: bbolt knows what to do
		}
		if txid := e.Uint64(b[metaStart+48:]); pages < 0 || txid > newest {
			newest, pages, free = txid, int64(e.Uint64(b[metaStart+40:])), int64(e.Uint64(b[metaStart+32:]))
		}
	}
	if pages < 0 {
		return damaged(h.path, fmt.Errorf("no valid header in its %d bytes", info.Size()))
	}
	if info.Size()/page < pages {
		return damaged(h.path, fmt.Errorf("truncated: %d bytes of at least %d", info.Size(), pages*page))
	}
	return h.checkFree(free, pages, page)
}

// checkFree refuses a list of free pages that names pages beyond the end: bbolt
// would write there. The list's page has a header of 16 bytes, number, flags,
// count and overflow, and then the numbers; with a count of 0xFFFF the first
// of them is the count.
func (h *handle) checkFree(at, pages, page int64) error {
	if at < 2 || at >= pages {
		return damaged(h.path, errors.New("its list of free pages is nowhere"))
	}
	e := binary.NativeEndian
	var head [24]byte
	if _, err := h.file.ReadAt(head[:], at*page); err != nil {
		return fault("open state", h.path, err)
	}
	count, first := int64(e.Uint16(head[10:])), at*page+16
	if count == 0xFFFF {
		count, first = int64(e.Uint64(head[16:])), first+8
	}
	const list = 0x10
	if int64(e.Uint64(head[:])) != at || e.Uint16(head[8:]) != list || count < 0 || count > pages || at+int64(e.Uint32(head[12:])) >= pages {
		return damaged(h.path, errors.New("its list of free pages is no such list"))
	}
	ids := make([]byte, 8*count)
	if _, err := h.file.ReadAt(ids, first); err != nil {
		return fault("open state", h.path, err)
	}
	for ; len(ids) > 0; ids = ids[8:] {
		if id := int64(e.Uint64(ids)); id < 2 || id >= pages {
			return damaged(h.path, fmt.Errorf("its list of free pages names page %d of %d", id, pages))
		}
	}
	return nil
}
