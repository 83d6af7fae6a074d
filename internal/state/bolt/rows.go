package bolt

import (
	"os"

	"go.etcd.io/bbolt"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// rows are state.Rows over one transaction. Without a transaction they are an
// empty, read-only store.
type rows struct {
	tx     *bbolt.Tx
	h      *handle
	write  bool
	writes int // counts changes: cursors are placed anew after one
	sum    byte
	failed error // damage met on the way; the transaction cannot succeed
}

// guard runs one bbolt call and remembers damage.
func (r *rows) guard(f func() error) error {
	if r.failed != nil {
		return r.failed
	}
	err := r.h.guard(f)
	if err != nil && r.h.lost {
		r.failed = err
	}
	return err
}

// bucket is nil when the table is not there.
func (r *rows) bucket(t state.Table) *bbolt.Bucket { return r.tx.Bucket([]byte(t)) }

func (r *rows) Get(t state.Table, key string) (value []byte, err error) {
	if r.tx == nil || key == "" {
		return nil, nil
	}
	err = r.guard(func() error {
		if b := r.bucket(t); b != nil {
			value = b.Get([]byte(key))
		}
		return r.touch(value)
	})
	return value, err
}

// touch reads a byte of every page of a row: a damaged page may point
// outside the file, and the fault must come while guard is there to catch it.
func (r *rows) touch(row []byte) error {
	if int64(len(row)) > r.h.size && !r.write {
		panic("a row is longer than the file")
	}
	var sum byte
	for i := 0; i < len(row); i += os.Getpagesize() {
		sum ^= row[i]
	}
	if len(row) > 0 {
		sum ^= row[len(row)-1]
	}
	r.sum = sum // so that the reads are not optimised away
	return nil
}

func (r *rows) Put(t state.Table, key string, value []byte) error {
	if !r.write {
		return readOnly()
	}
	r.writes++
	return r.guard(func() error {
		b, err := r.tx.CreateBucketIfNotExists([]byte(t))
		if err != nil {
			return fault("write state", r.h.path, err)
		}
		if err := b.Put([]byte(key), value); err != nil {
			return cove.E("write state", r.h.path, cove.Invalid, err)
		}
		return nil
	})
}

func (r *rows) Delete(t state.Table, key string) error {
	if !r.write {
		return readOnly()
	}
	r.writes++
	return r.guard(func() error {
		if b := r.bucket(t); b != nil {
			return b.Delete([]byte(key))
		}
		return nil
	})
}

func (r *rows) Ascend(t state.Table, from string, each func(string, []byte) (bool, error)) error {
	if r.tx == nil {
		return nil
	}
	var c *bbolt.Cursor
	var key string
	var value []byte
	found := false
	keep := func(k, v []byte) error {
		found = k != nil
		key, value = string(k), v
		return r.touch(v)
	}
	seen := r.writes
	err := r.guard(func() error {
		b := r.bucket(t)
		if b == nil {
			return nil
		}
		c = b.Cursor()
		return keep(c.Seek([]byte(from)))
	})
	for err == nil && found {
		var more bool
		if more, err = each(key, value); err != nil || !more {
			return err
		}
		err = r.guard(func() error {
			if seen == r.writes {
				return keep(c.Next())
			}
			seen = r.writes
			c = r.bucket(t).Cursor()
			return keep(c.Seek([]byte(key + "\x00"))) // the least key above
		})
	}
	return err
}

func (r *rows) Floor(t state.Table, key string) (k string, value []byte, ok bool, err error) {
	if r.tx == nil {
		return "", nil, false, nil
	}
	err = r.guard(func() error {
		b := r.bucket(t)
		if b == nil {
			return nil
		}
		c := b.Cursor()
		at, v := c.Seek([]byte(key))
		if at == nil {
			at, v = c.Last()
		} else if string(at) != key {
			at, v = c.Prev()
		}
		k, value, ok = string(at), v, at != nil
		return r.touch(v)
	})
	return k, value, ok, err
}

func readOnly() error { return cove.E("write state", "", cove.Internal, state.ErrReadOnly) }
