package cli

import (
	"encoding/csv"
	"strings"

	"github.com/spf13/pflag"
)

// listValue is a flag that may be repeated. It replaces pflag's, which sets
// up a CSV writer for each flag only to print an empty default: with run's 40
// lists a third of the command's construction.
type listValue struct {
	p *[]string
	// split takes commas apart, with CSV quoting.
	split bool
	set   bool // the default has been replaced
}

// sliceVar declares a list flag whose values are split at commas; arrayVar
// one whose values are taken whole.
func sliceVar(fs *pflag.FlagSet, p *[]string, name, short, usage string) {
	fs.VarP(&listValue{p: p, split: true}, name, short, usage)
}

func arrayVar(fs *pflag.FlagSet, p *[]string, name, short, usage string) {
	fs.VarP(&listValue{p: p}, name, short, usage)
}

// String, Set and Type make a listValue a [pflag.Value].
func (l *listValue) String() string {
	if l == nil || l.p == nil || len(*l.p) == 0 {
		return ""
	}
	return "[" + strings.Join(*l.p, ",") + "]"
}

func (l *listValue) Type() string {
	if l.split {
		return "strings"
	}
	return "stringArray"
}

func (l *listValue) Set(v string) error {
	values := []string{v}
	if l.split {
		if v == "" {
			values = nil
		} else if strings.ContainsAny(v, `,"`) {
			var err error
			if values, err = csv.NewReader(strings.NewReader(v)).Read(); err != nil {
				return err
			}
		}
	}
	if !l.set {
		*l.p, l.set = nil, true
	}
	*l.p = append(*l.p, values...)
	return nil
}
