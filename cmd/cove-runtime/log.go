package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/cove-engine/cove"
)

// log is the file of --log, in the form of runc's: engines read from it why
// something failed.
type log struct {
	path, format string
	debug        bool
	file         *os.File
}

func (l *log) open() (err error) {
	if l.format != "text" && l.format != "json" {
		return cove.E("", "--log-format", cove.Invalid, errFormat(l.format))
	}
	if l.path == "" {
		return nil
	}
	// O_SYNC has no place here: it is read by whoever started us.
	l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return cove.E("open log", l.path, cove.Invalid, err)
	}
	return nil
}

func (l *log) close() { _ = l.file.Close() }

func (l *log) add(level, text string) {
	if l.file == nil {
		return
	}
	now := time.Now().Format(time.RFC3339)
	var line []byte
	if l.format == "json" {
		line, _ = json.Marshal(struct {
			Level string `json:"level"`
			Text  string `json:"msg"`
			Time  string `json:"time"`
		}{level, text, now})
	} else {
		quoted, _ := json.Marshal(text)
		line = []byte("time=" + `"` + now + `"` + " level=" + level + " msg=" + string(quoted))
	}
	_, _ = l.file.Write(append(line, '\n'))
}

type errFormat string

func (e errFormat) Error() string { return `"` + string(e) + `" is neither text nor json` }
