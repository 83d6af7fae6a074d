package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cove-engine/cove/internal/mount"
)

// surroundings is what flags take from outside the command line: the caller's
// environment, files named by flags and the working directory.
type surroundings struct {
	env      []string
	readFile func(path string) ([]byte, error)
	workDir  string
}

// flagFileLimit bounds a file named by --env-file or --label-file, in bytes.
const flagFileLimit = 4 << 20

// outside is a's surroundings.
func (a *app) outside() surroundings {
	wd, err := os.Getwd()
	if err != nil {
		wd = "" // as mount.Abs wants it
	}
	return surroundings{env: a.Env, workDir: wd, readFile: func(path string) ([]byte, error) {
		if path == "-" {
			return io.ReadAll(io.LimitReader(a.In, flagFileLimit))
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, flagFileLimit+1))
		if err == nil && len(data) > flagFileLimit {
			err = errors.New("file too large")
		}
		return data, err
	}}
}

// abs makes path absolute against the working directory.
func (s surroundings) abs(path *string) (err error) {
	*path, err = mount.Abs(s.workDir, *path)
	return err
}

// lookup finds a variable of the caller's environment.
func (s surroundings) lookup(name string) (string, bool) {
	for i := len(s.env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(s.env[i], "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// envLine adds what one -e value or one line of an env file says: KEY=value,
// KEY (taken from the caller when it has it) or BEGINNING* (all that begin
// so).
func (s surroundings) envLine(into []string, line string) ([]string, error) {
	name, _, hasValue := strings.Cut(line, "=")
	if name == "" {
		return nil, fmt.Errorf("invalid environment variable: %q", line)
	}
	if hasValue {
		return append(into, line), nil
	}
	if begin, ok := strings.CutSuffix(name, "*"); ok {
		for _, kv := range s.env {
			if strings.HasPrefix(kv, begin) && strings.Contains(kv, "=") {
				into = append(into, kv)
			}
		}
		return into, nil
	}
	if v, ok := s.lookup(name); ok {
		into = append(into, name+"="+v)
	}
	return into, nil
}

// envFile adds the lines of an env file: no quoting, # begins a comment line.
func (s surroundings) envFile(into []string, path string) ([]string, error) {
	data, err := s.readFile(path)
	if err != nil {
		return nil, fmt.Errorf("parsing env file %q: %w", path, err)
	}
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
		l := strings.TrimLeft(strings.TrimRight(string(line), "\r\n"), " \t")
		if l == "" || l[0] == '#' {
			continue
		}
		if into, err = s.envLine(into, l); err != nil {
			return nil, fmt.Errorf("parsing env file %q: %w", path, err)
		}
	}
	return into, nil
}

// environment is what --env-file and --env say together, weakest first.
func (s surroundings) environment(files, flags []string) ([]string, error) {
	var env []string
	var err error
	for _, f := range files {
		if env, err = s.envFile(env, f); err != nil {
			return nil, err
		}
	}
	for _, e := range flags {
		if env, err = s.envLine(env, e); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// labels reads --label and --label-file; the flags win over the files.
func (s surroundings) labels(files, flags []string) (map[string]string, error) {
	var lines []string
	for _, path := range files {
		data, err := s.readFile(path)
		if err != nil {
			return nil, fmt.Errorf("unable to process labels: %w", err)
		}
		for line := range bytes.Lines(data) {
			l := strings.TrimLeft(strings.TrimRight(string(line), "\r\n"), " \t")
			if l != "" && l[0] != '#' {
				lines = append(lines, l)
			}
		}
	}
	return keyValues(append(lines, flags...), func(l string) error {
		return fmt.Errorf("unable to process labels: invalid label format: %q", l)
	})
}

// keyValues splits KEY=value; a KEY alone has the empty value. Malformed
// items give bad's error. No items give nil.
func keyValues(items []string, bad func(string) error) (map[string]string, error) {
	if len(items) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(items))
	for _, l := range items {
		k, v, _ := strings.Cut(l, "=")
		if k == "" {
			return nil, bad(l)
		}
		m[k] = v
	}
	return m, nil
}

// words reads an option that is a JSON array of strings or one plain word.
func words(value string) []string {
	var list []string
	if err := json.Unmarshal([]byte(value), &list); err == nil {
		return list
	}
	if value == "" {
		return nil
	}
	return []string{value}
}
