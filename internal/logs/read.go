package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/logfile"
)

// poll is how often Done is asked while nothing is written.
const poll = 200 * time.Millisecond

type reader struct {
	o       Options
	watch   *logfile.Watcher
	records records
	cursor  logfile.Cursor
	buf     []byte
	// was is what the log was when the reading began; nil to follow, or when
	// there was none.
	was os.FileInfo
}

func (r *reader) run(ctx context.Context) error {
	if !r.o.Follow {
		r.was, _ = os.Lstat(r.o.Path)
	}
	if err := r.begin(); err != nil && !(r.o.Follow && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	following := ctx
	if !r.o.Until.IsZero() {
		var cancel context.CancelFunc
		following, cancel = context.WithDeadline(ctx, r.o.Until)
		defer cancel()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.o.Follow && following.Err() != nil { // Until has come, and what there is by now is read as by who does not follow
			r.o.Follow = false
			r.was, _ = os.Lstat(r.o.Path)
		}
		if !r.o.Follow {
			following = ctx
		}
		// Both must be known before the end is seen: afterwards more
		// may have been written in between.
		done := !r.o.Follow || r.o.Done != nil && r.o.Done()
		last, err := r.cursor.Last()
		if err != nil {
			return err
		}
		switch ended, err := r.drain(following); {
		case err != nil && err == following.Err():
			continue
		case err != nil || ended:
			return err
		}
		if !last {
			if _, err := r.to(r.cursor.Younger); err != nil {
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
		if err := r.watch.Wait(following, poll); err != nil && err != following.Err() {
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

// begin opens the file that holds the first wanted line, at that line. A log
// that is not there has the error fs.ErrNotExist.
func (r *reader) begin() error {
	first := r.cursor.Oldest
	if r.o.Tail >= 0 {
		first = r.cursor.Youngest
	}
	there, err := r.to(first)
	if err == nil && !there {
		err = &fs.PathError{Op: "open", Path: r.o.Path, Err: unix.ENOENT}
	}
	if err != nil || r.o.Tail < 0 {
		return err
	}
	// The first of the last lines is looked for from the end.
	for need := r.o.Tail; ; {
		at, left, err := r.last(need)
		if err != nil {
			return err
		}
		if left < 0 {
			_, err := r.cursor.File.Seek(at, io.SeekStart)
			return err
		}
		need = left
		if there, err := r.to(r.cursor.Older); err != nil || !there { // there are not as many
			return err
		}
	}
}

// to moves to the beginning of another file.
func (r *reader) to(move func() (bool, error)) (bool, error) {
	moved, err := move()
	if moved {
		r.records.reset()
	}
	return moved, err
}

// last finds where the last need lines of the file begin. A line ends with a
// record that no other continues, so the search goes on to the end of one
// line more; left is then -1, else how many are still to be found in the
// file before.
func (r *reader) last(need int) (at int64, left int, err error) {
	info, err := r.cursor.File.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := int64(-1) // of the line being looked at: its newline
	newest := true
	for off := info.Size(); off > 0; {
		n := min(off, int64(len(r.buf)))
		off -= n
		if _, err := r.cursor.File.ReadAt(r.buf[:n], off); err != nil && err != io.EOF {
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
			if whole, err := r.whole(newline+1, end, r.buf[:n], off); err != nil {
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
	whole, err := r.whole(0, end, nil, 0)
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

// whole reports whether the record from start to end ends a line. Of the file block,
// which is at off, has been read: a log may be records of one byte, of one line.
func (r *reader) whole(start, end int64, block []byte, off int64) (bool, error) {
	var buf [256]byte
	if r.records.json {
		// The text's end is near the record's; a quote inside the text
		// has a backslash before it.
		start = max(start, end-int64(len(buf)))
	}
	b := buf[:min(int64(len(buf)), end-start)]
	if at := start - off; at >= 0 && at+int64(len(b)) <= int64(len(block)) {
		b = block[at : at+int64(len(b))]
	} else if _, err := r.cursor.File.ReadAt(b, start); err != nil && err != io.EOF {
		return false, err
	}
	if r.records.json {
		return endsLine(b), nil
	}
	rec, ok := decodeK8s(b)
	return ok && !rec.more, nil
}

// drain reads to the present end of the file; ended tells that it was the last
// that is wanted, and was read to the end that it had.
func (r *reader) drain(ctx context.Context) (ended bool, err error) {
	if r.cursor.File == nil {
		return false, nil
	}
	var from io.Reader = r.cursor.File
	if r.was != nil {
		info, err := r.cursor.File.Stat()
		if err != nil {
			return false, err
		}
		if ended = os.SameFile(info, r.was); ended {
			at, err := r.cursor.File.Seek(0, io.SeekCurrent)
			if err != nil {
				return false, err
			}
			from = io.LimitReader(r.cursor.File, r.was.Size()-at)
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
	at, err := r.cursor.File.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := r.cursor.File.Stat()
	if err != nil || info.Size() >= at {
		return err
	}
	r.records.reset()
	_, err = r.cursor.File.Seek(0, io.SeekStart)
	return err
}
