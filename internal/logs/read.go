package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/cove-engine/cove/internal/logfile"
)

// maxRotated bounds how many predecessors are looked for.
const maxRotated = 1000

// poll is how often Done is asked while nothing is written.
const poll = 200 * time.Millisecond

type reader struct {
	o       Options
	watch   *logfile.Watcher
	records records
	file    *os.File
	buf     []byte
	// was is what the log was when the reading began; nil to follow, or when
	// there was none.
	was os.FileInfo
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read
	}
}

func (r *reader) run(ctx context.Context) error {
	if !r.o.Follow {
		r.was, _ = os.Lstat(r.o.Path)
	}
	if err := r.begin(); err != nil && !(r.o.Follow && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Both must be known before the end is seen: afterwards more
		// may have been written in between.
		done := !r.o.Follow || r.o.Done != nil && r.o.Done()
		next, err := r.next()
		if err != nil {
			return err
		}
		if ended, err := r.drain(ctx); err != nil || ended {
			return err
		}
		if next != "" {
			if err := r.open(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if done {
			return nil
		}
		if err := r.o.idle(); err != nil {
			return err
		}
		if err := r.watch.Wait(ctx, poll); err != nil {
			return err
		}
	}
}

func (o *Options) idle() error {
	if o.Idle == nil {
		return nil
	}
	return o.Idle()
}

// rotated names the k-th predecessor; the 0th is the log itself.
func (r *reader) rotated(k int) string {
	if k == 0 {
		return r.o.Path
	}
	return r.o.Path + "." + strconv.Itoa(k)
}

// begin opens the file that holds the first wanted line, at that line.
func (r *reader) begin() error {
	if r.o.Tail >= 0 {
		return r.beginTail()
	}
	k := 0
	for {
		for k < maxRotated && exists(r.rotated(k+1)) {
			k++
		}
		err := r.open(r.rotated(k))
		if k > 0 && errors.Is(err, fs.ErrNotExist) { // the oldest has been removed
			k--
			err = r.open(r.rotated(k))
		}
		// It may have been rotated in between.
		if err != nil && !errors.Is(err, fs.ErrNotExist) || k == maxRotated || !exists(r.rotated(k+1)) {
			return err
		}
	}
}

// beginTail finds the first of the last lines from the end.
func (r *reader) beginTail() error {
	need := r.o.Tail
	for k := 0; ; k++ {
		was := r.file
		r.file = nil
		err := r.open(r.rotated(k))
		if err != nil {
			r.file = was
			if was != nil && errors.Is(err, fs.ErrNotExist) {
				_, err = r.file.Seek(0, io.SeekStart) // there are not as many
			}
			return err
		}
		if was != nil {
			_ = was.Close() // only read
		}
		at, left, err := r.last(need)
		if err != nil {
			return err
		}
		if left < 0 || k == maxRotated {
			_, err := r.file.Seek(at, io.SeekStart)
			return err
		}
		need = left
	}
}

// last finds where the last need lines of the file begin. A line ends with a
// record that no other continues, so the search goes on to the end of one
// line more; left is then -1, else how many are still to be found in the
// file before.
func (r *reader) last(need int) (at int64, left int, err error) {
	info, err := r.file.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := int64(-1) // of the line being looked at: its newline
	newest := true
	for off := info.Size(); off > 0; {
		n := min(off, int64(len(r.buf)))
		off -= n
		if _, err := r.file.ReadAt(r.buf[:n], off); err != nil && err != io.EOF {
			return 0, 0, err
		}
		for i := int(n) - 1; i >= 0; i-- {
			if r.buf[i] != '\n' {
				continue
			}
			newline := off + int64(i)
			if end < 0 {
				end = newline
				if need == 0 {
					return newline + 1, -1, nil
				}
				continue
			}
			if whole, err := r.whole(newline+1, end); err != nil {
				return 0, 0, err
			} else if whole || newest {
				if need == 0 {
					return end + 1, -1, nil
				}
				need--
			}
			newest, end = false, newline
		}
	}
	if end < 0 {
		return 0, need, nil
	}
	// The file's first line has no newline before it.
	whole, err := r.whole(0, end)
	if err != nil {
		return 0, 0, err
	}
	if whole || newest {
		if need == 0 {
			return end + 1, -1, nil
		}
		need--
	}
	return 0, need, nil
}

// whole reports whether the record from start to end ends a line.
func (r *reader) whole(start, end int64) (bool, error) {
	var buf [256]byte
	b := buf[:]
	if r.records.json {
		// The text's end is near the record's; a quote inside the text
		// has a backslash before it.
		start = max(start, end-int64(len(b)))
	}
	b = b[:min(int64(len(b)), end-start)]
	if _, err := r.file.ReadAt(b, start); err != nil && err != io.EOF {
		return false, err
	}
	if r.records.json {
		return endsLine(b), nil
	}
	rec, ok := decodeK8s(b)
	return ok && !rec.more, nil
}

// open goes on with another file, from its beginning.
func (r *reader) open(path string) error {
	f, err := logfile.Open(path)
	if err != nil {
		return err
	}
	r.close()
	r.file = f
	r.records.reset()
	if r.buf == nil {
		r.buf = make([]byte, 64<<10)
	}
	return nil
}

// next names the file that follows the present one, "" when it is the log
// itself.
func (r *reader) next() (string, error) {
	log, err := os.Lstat(r.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if r.file == nil {
		return r.o.Path, nil
	}
	mine, err := r.file.Stat()
	if err != nil {
		return "", err
	}
	if os.SameFile(mine, log) {
		return "", nil
	}
	// Ours has become the k-th predecessor; if it is gone altogether, go on
	// with the oldest that was written to after it.
	younger := 0
	for k := 1; k <= maxRotated; k++ {
		info, err := os.Lstat(r.rotated(k))
		if err != nil {
			break
		}
		if os.SameFile(mine, info) {
			return r.rotated(k - 1), nil
		}
		if !info.ModTime().Before(mine.ModTime()) {
			younger = k
		}
	}
	return r.rotated(younger), nil
}

// drain reads to the present end of the file; ended tells that it was the last
// that is wanted, and was read to the end that it had.
func (r *reader) drain(ctx context.Context) (ended bool, err error) {
	if r.file == nil {
		return false, nil
	}
	var from io.Reader = r.file
	if r.was != nil {
		info, err := r.file.Stat()
		if err != nil {
			return false, err
		}
		if ended = os.SameFile(info, r.was); ended {
			at, err := r.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return false, err
			}
			from = io.LimitReader(r.file, r.was.Size()-at)
		}
	}
	for {
		n, err := from.Read(r.buf)
		if err := r.records.write(r.buf[:n]); err != nil {
			return false, err
		}
		if err == io.EOF {
			return ended, r.shrunk()
		}
		if err != nil {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// shrunk begins anew with a file that was emptied in place.
func (r *reader) shrunk() error {
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := r.file.Stat()
	if err != nil || info.Size() >= at {
		return err
	}
	r.records.reset()
	_, err = r.file.Seek(0, io.SeekStart)
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
