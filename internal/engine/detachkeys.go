package engine

import (
	"fmt"
	"io"
	"strings"

	"github.com/cove-engine/cove"
)

// NoDetachKeys is a sequence of no keys: there is no detaching.
const NoDetachKeys = ","

// detachKeys are those that an attachment with o ends by. Who starts anything to
// attach to it asks before that.
func (e *Engine) detachKeys(o AttachOptions) ([]byte, error) {
	return detachKeys(o.DetachKeys, e.conf.File.Engine.DetachKeys)
}

// detachKeys reads a sequence like "ctrl-p,ctrl-q"; flag wins over conf. An
// empty sequence switches detaching off.
func detachKeys(flag, conf string) ([]byte, error) {
	text := flag
	if text == "" {
		text = conf
	}
	var keys []byte
	for part := range strings.SplitSeq(text, ",") {
		switch {
		case part == "":
		case len(part) == 1:
			keys = append(keys, part[0])
		case len(part) == 6 && strings.HasPrefix(part, "ctrl-"):
			c := part[5]
			switch {
			case c >= 'a' && c <= 'z':
				keys = append(keys, c-'a'+1)
			case c == '@':
				keys = append(keys, 0)
			case c >= '[' && c <= '_':
				keys = append(keys, c-'['+27)
			default:
				return nil, badKeys(text)
			}
		default:
			return nil, badKeys(text)
		}
	}
	return keys, nil
}

func badKeys(text string) error {
	return cove.E("", "", cove.Invalid, fmt.Errorf("invalid detach keys %q: want letters or ctrl-X, separated by commas", text))
}

// escapeReader reads a terminal and ends with errDetached when the keys were
// pressed one after another. What turns out not to be the whole sequence is
// passed on.
type escapeReader struct {
	in      io.Reader
	keys    []byte
	matched int
	pending []byte
	err     error
}

func newEscapeReader(in io.Reader, keys []byte) *escapeReader {
	return &escapeReader{in: in, keys: keys}
}

func (r *escapeReader) Read(p []byte) (int, error) {
	for len(r.pending) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		buf := make([]byte, len(p))
		n, err := r.in.Read(buf)
		r.err = err
		for _, b := range buf[:n] {
			r.take(b)
			if r.matched == len(r.keys) {
				r.err = errDetached
				break
			}
		}
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

func (r *escapeReader) take(b byte) {
	if b == r.keys[r.matched] {
		r.matched++
		return
	}
	r.pending = append(r.pending, r.keys[:r.matched]...)
	r.matched = 0
	if b == r.keys[0] {
		r.matched = 1
		return
	}
	r.pending = append(r.pending, b)
}
