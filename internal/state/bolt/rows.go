package bolt

import (
	"cmp"
	"os"

	"go.etcd.io/bbolt"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/turnstile"
)

// rows are state.Rows over one transaction.
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

// bucket is a table.
func (r *rows) bucket(t state.Table) *bbolt.Bucket { return r.tx.Bucket([]byte(t)) }

// meets runs one of the tree's looks at what a call is going to meet.
func (r *rows) meets(look func(*tree) error) error {
	if r.h.tree == nil {
		return nil
	}
	return r.guard(func() error {
		if err := look(r.h.tree); err != nil {
			r.h.lost = true
			return turnstile.Damaged(r.h.path, err)
		}
		return nil
	})
}

func (r *rows) Get(t state.Table, key string) (value []byte, err error) {
	if key == "" {
		return nil, nil
	}
	if err := r.meets(func(h *tree) error { return h.forGet(string(t), []byte(key)) }); err != nil {
		return nil, err
	}
	err = r.guard(func() error {
		value = r.bucket(t).Get([]byte(key))
		return r.touch(value)
	})
	return value, err
}

// touch reads a byte of every page of a row: a page that cannot be read is a
// fault, which must come while guard is there to catch it.
func (r *rows) touch(row []byte) error {
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
		return state.ReadOnly()
	}
	r.writes++
	if err := r.meets(func(h *tree) error { return h.forGet(string(t), []byte(key)) }); err != nil {
		return err
	}
	return r.guard(func() error {
		if err := r.bucket(t).Put([]byte(key), value); err != nil {
			return cove.E("write state", r.h.path, cove.Invalid, err)
		}
		return nil
	})
}

func (r *rows) Delete(t state.Table, key string) error {
	if !r.write {
		return state.ReadOnly()
	}
	r.writes++
	if err := r.meets(func(h *tree) error { return h.forDelete(string(t), []byte(key)) }); err != nil {
		return err
	}
	return r.guard(func() error { return r.bucket(t).Delete([]byte(key)) })
}

func (r *rows) Ascend(t state.Table, from string, each func(string, []byte) (bool, error)) error {
	var c *bbolt.Cursor
	var key string
	var value, last []byte // last is where the way has been looked at to
	found := false
	seek := func(at string) error {
		err := r.meets(func(h *tree) (err error) { last, err = h.forWalk(string(t), []byte(at), +1); return err })
		if err != nil {
			return err
		}
		return r.guard(func() error {
			c = r.bucket(t).Cursor()
			k, v := c.Seek([]byte(at))
			key, value, found = string(k), v, k != nil
			return r.touch(v)
		})
	}
	seen := r.writes
	err := seek(from)
	for err == nil && found {
		var more bool
		if more, err = each(key, value); err != nil || !more {
			return err
		}
		if seen != r.writes || last != nil && key >= string(last) {
			seen = r.writes
			err = seek(key + "\x00") // the least key above
			continue
		}
		err = r.guard(func() error {
			k, v := c.Next()
			key, value, found = string(k), v, k != nil
			return r.touch(v)
		})
	}
	return err
}

func (r *rows) Floor(t state.Table, key string) (k string, value []byte, ok bool, err error) {
	err = r.meets(func(h *tree) error {
		_, before := h.forWalk(string(t), []byte(key), -1)
		_, after := h.forWalk(string(t), []byte(key), +1) // where the cursor may stop first
		return cmp.Or(before, after)
	})
	if err != nil {
		return "", nil, false, err
	}
	err = r.guard(func() error {
		c := r.bucket(t).Cursor()
		at, v := c.Seek([]byte(key))
		if at == nil {
			at, v = c.Last()
		} else if string(at) != key {
			at, v = c.Prev()
		}
		// A page that this transaction has emptied is a stop on the way.
		for i := 0; at == nil && i < r.writes; i++ {
			at, v = c.Prev()
		}
		k, value, ok = string(at), v, at != nil
		return r.touch(v)
	})
	return k, value, ok, err
}
