package serve

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// logger writes the container's log. A log that cannot be written never stops
// the container.
type logger struct {
	conf *wire.Log
	fd   int
	size int64
	line []byte // one write under way, kept for its space
}

// open opens the log for appending.
func (l *logger) open(conf *wire.Log) error {
	l.conf, l.fd = conf, -1
	if conf.Driver == "none" || conf.Path == "" {
		return nil
	}
	fd, err := unix.Open(conf.Path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.fd, l.size = fd, st.Size
	return nil
}

// write records output as lines: in the k8s-file format
//
//	2006-01-02T15:04:05.000000000-07:00 stdout F text
//
// (P instead of F when the line goes on in the next record), or in docker's
// json-file format.
func (l *logger) write(kind wire.Kind, data []byte) {
	if l.fd < 0 {
		return
	}
	stream := "stdout"
	if kind == wire.Stderr {
		stream = "stderr"
	}
	var stamp [40]byte
	now := time.Now()
	record := l.line[:0]
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		text, whole := data, false
		if end >= 0 {
			text, whole = data[:end], true
			data = data[end+1:]
		} else {
			data = nil
		}
		if l.conf.Driver == "json-file" {
			record = appendJSONLine(record, text, whole, stream, now)
			continue
		}
		record = append(record, now.AppendFormat(stamp[:0], "2006-01-02T15:04:05.000000000-07:00")...)
		record = append(append(append(record, ' '), stream...), ' ')
		if whole {
			record = append(record, 'F', ' ')
		} else {
			record = append(record, 'P', ' ')
		}
		record = append(append(record, text...), '\n')
	}
	if n, err := unix.Write(l.fd, record); err == nil {
		l.size += int64(n)
	}
	if cap(record) <= 64<<10 {
		l.line = record[:0]
	}
	if l.conf.MaxSize > 0 && l.size >= l.conf.MaxSize {
		l.rotate()
	}
}

// rotate moves path to path.1, path.1 to path.2 and so on. A reader that has
// the old file open goes on reading it.
func (l *logger) rotate() {
	p := l.conf.Path
	if l.conf.MaxFile < 1 {
		_ = unix.Unlink(p)
	}
	for n := l.conf.MaxFile; n >= 1; n-- {
		from := p
		if n > 1 {
			from = p + "." + strconv.Itoa(n-1)
		}
		_ = os.Rename(from, p+"."+strconv.Itoa(n))
	}
	old := l.fd
	if err := l.open(l.conf); err != nil {
		l.fd = old // better a large log than none
		return
	}
	_ = unix.Close(old)
}

// appendJSONLine appends {"log":"text\n","stream":"stdout","time":"…"}.
func appendJSONLine(b, text []byte, whole bool, stream string, now time.Time) []byte {
	b = append(b, `{"log":"`...)
	b = appendJSONText(b, text)
	if whole {
		b = append(b, `\n`...)
	}
	b = append(append(append(b, `","stream":"`...), stream...), `","time":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

func appendJSONText(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	for _, r := range string(text) { // what is not UTF-8 becomes U+FFFD, as in docker
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}
