// Package journalctl reads the journal through the program of that name, in the
// export format. The library's other door, libsystemd, is C, and the files'
// format has too many generations for a reader of our own.
package journalctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cove-engine/cove"
)

// maxField bounds one field of an entry, in bytes.
const maxField = 64 << 20

// Entry is one entry: its fields by name. Values are valid during the call only.
type Entry map[string][]byte

// Query says which entries to read.
type Query struct {
	Fields []string // that the entries have
	Match  []string // NAME=value, all of them
	// User is who must have written the entries, which journald knows: anybody may
	// send it any field. Negative is anybody, for fields that are journald's own.
	User    int
	Reverse bool   // the newest first
	After   string // the cursor of the entry before the first; "" begins with the first of all
	Follow  bool   // go on with new ones until ctx ends
	// Since leaves out what is older; zero leaves out nothing.
	Since time.Time
}

// Sync waits until what was sent to the journal can be read from it, as far as
// this user may ask for that.
func Sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
}

// Read calls each for the entries, the oldest first, and returns its error; nil
// when ctx ended.
func Read(ctx context.Context, q Query, each func(e Entry) error) error {
	match := slices.Clone(q.Match)
	if q.User >= 0 {
		match = append(match, "_UID="+strconv.Itoa(q.User))
	}
	args := []string{"--quiet", "--no-pager", "--output=export", "--output-fields=" + strings.Join(q.Fields, ",")}
	switch {
	case q.After != "":
		args = append(args, "--after-cursor="+q.After)
	case !q.Since.IsZero():
		args = append(args, fmt.Sprintf("--since=@%d", q.Since.Unix()))
	}
	if q.Reverse {
		args = append(args, "--reverse")
	}
	if q.Follow {
		args = append(args, "--follow", "--lines=all")
	}
	// Killed also when each does not want any more.
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(run, "journalctl", append(args, match...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		kind := cove.Internal
		if errors.Is(err, exec.ErrNotFound) {
			kind = cove.Unavailable
		}
		return cove.E("read journal", "", kind, err)
	}
	err = decode(out, each)
	cancel()
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case ended != nil && said.Len() > 0:
		return cove.E("read journal", "", cove.Unavailable, errors.New(firstLine(said.String())))
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// decode reads the export format: lines NAME=value, or NAME, the value's length
// in eight bytes, the value and a newline; an empty line ends an entry.
func decode(r io.Reader, each func(e Entry) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	entry := Entry{}
	bad := func(why string) error {
		return cove.E("read journal", "", cove.Invalid, errors.New(why))
	}
	for {
		line, err := readLine(in)
		if err == io.EOF {
			return nil // what is begun and not ended was being written
		}
		if err != nil {
			return cove.E("read journal", "", cove.Invalid, err)
		}
		if len(line) == 0 {
			if len(entry) > 0 {
				if err := each(entry); err != nil {
					return err
				}
				entry = Entry{}
			}
			continue
		}
		if name, value, ok := bytes.Cut(line, []byte("=")); ok {
			entry[string(name)] = value
			continue
		}
		var size [8]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return nil
		}
		n := binary.LittleEndian.Uint64(size[:])
		if n > maxField {
			return bad("an entry has a field of " + fmt.Sprint(n) + " bytes")
		}
		var value bytes.Buffer
		if _, err := io.CopyN(&value, in, int64(n)); err != nil {
			return nil
		}
		if c, err := in.ReadByte(); err != nil {
			return nil
		} else if c != '\n' {
			return bad("an entry is not in the export format")
		}
		entry[string(line)] = value.Bytes()
	}
}

// readLine reads a line of at most maxField bytes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxField {
			return nil, errors.New("an entry has a line that is too long")
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return line, err
		}
		return line[:len(line)-1], nil
	}
}
