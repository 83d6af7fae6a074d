package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	cove "github.com/cove-engine/cove"
)

// Program is a filter as seccomp(2) takes it.
type Program struct {
	// BPF is an array of struct sock_filter (8 bytes each) in the byte order
	// of the architecture that it was compiled for.
	BPF []byte
	// Flags are the SECCOMP_FILTER_FLAG_* bits for SECCOMP_SET_MODE_FILTER.
	// With TSYNC and without TSYNC_ESRCH a positive result of the call is the
	// thread that could not be synchronised, so a failure.
	Flags uint
	// Notify says that Flags has NEW_LISTENER: the call's result is a file
	// descriptor, to be sent to the agent at the profile's listenerPath.
	Notify bool
}

// cond is one comparison of a system call's argument.
type cond struct {
	arg   uint // 0 to 5
	op    specs.LinuxSeccompOperator
	value uint64
	mask  uint64 // of MASKED_EQ
}

// rule is an action with the conditions that must all hold.
type rule struct {
	action uint32 // a SECCOMP_RET_* with its data
	conds  []cond
	always bool // the profile gives no conditions
}

// verdict is the answer to one system call: the rules in order, and the
// action when none holds.
type verdict struct {
	rules  []rule
	action uint32
	narrow bool
}

func (v verdict) plain() bool { return len(v.rules) == 0 }

// Compile makes the filter of s for a kernel of architecture arch, a GOARCH
// name. The package comment says what a profile means. A malformed profile is
// of kind [cove.Invalid], one that needs more than the kernel's 4,096
// instructions or an architecture without tables [cove.Unsupported].
func Compile(s *specs.LinuxSeccomp, arch string) (Program, error) {
	if s == nil {
		return Program{}, invalid(errors.New("is empty"))
	}
	m, err := machineOf(arch)
	if err != nil {
		return Program{}, err
	}
	abis, err := m.pick(s.Architectures)
	if err != nil {
		return Program{}, err
	}
	fallback, err := retOf(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return Program{}, invalid(fmt.Errorf("defaultAction: %w", err))
	}
	if s.DefaultAction == specs.ActNotify {
		return Program{}, invalid(errors.New("defaultAction: SCMP_ACT_NOTIFY would stop the container's own start"))
	}
	p := Program{}
	rules, err := rulesOf(s, fallback, &p)
	if err != nil {
		return Program{}, err
	}
	if p.Flags, err = flagsOf(s.Flags, p.Notify); err != nil {
		return Program{}, err
	}

	b := &builder{order: m.order, rets: make(map[uint32]int)}
	dispatch(b, abis, func(a abi) []segment { return segmentsOf(a, rules, fallback) })
	if b.full {
		return Program{}, cove.E("seccomp", "profile", cove.Unsupported,
			fmt.Errorf("needs more than the kernel's limit of %d instructions", unix.BPF_MAXINSNS))
	}
	p.BPF = b.bytes()
	return p, nil
}

// named is a rule with the call that it is about.
type named struct {
	name string
	rule
}

// rulesOf flattens the rules of s and sets p.Notify. Every one is checked,
// also those that the fallback makes redundant.
func rulesOf(s *specs.LinuxSeccomp, fallback uint32, p *Program) ([]named, error) {
	var rules []named
	for i, call := range s.Syscalls {
		where := func(err error) error { return invalid(fmt.Errorf("syscalls[%d]: %w", i, err)) }
		if len(call.Names) == 0 {
			return nil, where(errors.New("names is empty"))
		}
		ret, err := retOf(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, where(err)
		}
		conds, err := condsOf(call.Args)
		if err != nil {
			return nil, where(err)
		}
		for _, name := range call.Names {
			if name == "" {
				return nil, where(errors.New("a name is empty"))
			}
			if call.Action == specs.ActNotify {
				// The listener is handed over by a process that is
				// already under the filter; runc has the same rule.
				if name == "write" {
					return nil, where(errors.New("SCMP_ACT_NOTIFY cannot be used for write"))
				}
				p.Notify = true
			}
			if len(conds) == 0 {
				rules = append(rules, named{name, rule{action: ret, always: true}})
			}
			for _, c := range conds {
				rules = append(rules, named{name, rule{action: ret, conds: c}})
			}
		}
	}
	return rules, nil
}

// condsOf gives the alternatives that args stand for: one, of all conditions,
// or when an argument occurs twice, each condition for itself (the fact is
// runc's, from the time before libseccomp could AND conditions).
func condsOf(args []specs.LinuxSeccompArg) ([][]cond, error) {
	var all []cond
	var seen [6]bool
	twice := false
	for i, a := range args {
		if a.Index >= uint(len(seen)) {
			return nil, fmt.Errorf("args[%d]: index %d is not 0 to 5", i, a.Index)
		}
		c := cond{arg: a.Index, op: a.Op, value: a.Value}
		switch a.Op {
		case specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual:
		case specs.OpMaskedEqual:
			c.mask, c.value = a.Value, a.ValueTwo&a.Value
		default:
			return nil, fmt.Errorf("args[%d]: unknown operator %q", i, a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, nil
	}
	if !twice {
		return [][]cond{all}, nil
	}
	alternatives := make([][]cond, len(all))
	for i := range all {
		alternatives[i] = all[i : i+1]
	}
	return alternatives, nil
}

// retOf is the filter's return value for an action.
func retOf(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	var ret, top uint32
	switch action {
	case specs.ActErrno:
		ret, top = unix.SECCOMP_RET_ERRNO, 4095 // the kernel's MAX_ERRNO
	case specs.ActTrace:
		ret, top = unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_DATA
	case specs.ActKill, specs.ActKillThread:
		ret = unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		ret = unix.SECCOMP_RET_KILL_PROCESS
	case specs.ActTrap:
		ret = unix.SECCOMP_RET_TRAP
	case specs.ActAllow:
		ret = unix.SECCOMP_RET_ALLOW
	case specs.ActLog:
		ret = unix.SECCOMP_RET_LOG
	case specs.ActNotify:
		ret = unix.SECCOMP_RET_USER_NOTIF
	default:
		return 0, fmt.Errorf("unknown action %q", action)
	}
	if errno == nil {
		if top != 0 {
			ret |= uint32(unix.EPERM)
		}
		return ret, nil
	}
	if top == 0 {
		return 0, fmt.Errorf("action %s takes no errnoRet", action)
	}
	if *errno > uint(top) {
		return 0, fmt.Errorf("errnoRet %d of action %s is above %d", *errno, action, top)
	}
	return ret | uint32(*errno), nil
}

// permissive says whether a call with this return value goes on. A tracer
// counts as letting it: it handles calls that it does not know by itself.
func permissive(ret uint32) bool {
	switch ret & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return true
	}
	return false
}

// flagsOf gives the SECCOMP_FILTER_FLAG_* bits of a profile's flags.
func flagsOf(flags []specs.LinuxSeccompFlag, notify bool) (uint, error) {
	var bits uint
	for _, f := range flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC":
			bits |= unix.SECCOMP_FILTER_FLAG_TSYNC
		case specs.LinuxSeccompFlagLog:
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			// The kernel refuses it without a listener; libseccomp then
			// leaves it out.
			if notify {
				bits |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
			}
		default:
			return 0, invalid(fmt.Errorf("unknown flag %q", f))
		}
	}
	if notify {
		bits |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		if bits&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			// Both want the call's result; the kernel takes them
			// together only with this third one.
			bits |= unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
		}
	}
	return bits, nil
}

// verdictsOf gives the calls of a that rules decide, and the highest number
// that they name (ok is false when they name none).
func verdictsOf(a abi, rules []named, fallback uint32) (verdicts map[uint32]verdict, highest uint32, ok bool) {
	byCall := make(map[uint32][]rule)
	for _, r := range rules {
		nr, found := a.lookup(r.name)
		if found && (a.arch != specs.ArchARM || nr < armPrivate) {
			highest, ok = max(highest, nr), true
		}
		if r.action == fallback {
			continue
		}
		conds := a.shorten(r.conds)
		if found {
			byCall[nr] = append(byCall[nr], rule{r.action, conds, r.always})
		}
		if !a.mux || (len(conds) > 0 && permissive(r.action)) {
			continue
		}
		if mux, sub, isSub := muxCall(r.name); isSub {
			// The other arguments are behind a pointer.
			first := cond{op: specs.OpEqualTo, value: uint64(sub)}
			byCall[mux] = append(byCall[mux], rule{action: r.action, conds: []cond{first}})
		}
	}
	verdicts = make(map[uint32]verdict, len(byCall))
	for nr, list := range byCall {
		verdicts[nr] = decide(list, fallback, a.narrow)
	}
	return verdicts, highest, ok
}

// decide orders the rules of one call.
func decide(list []rule, fallback uint32, narrow bool) verdict {
	if i := slices.IndexFunc(list, func(r rule) bool { return r.always }); i >= 0 {
		return verdict{action: list[i].action}
	}
	slices.SortStableFunc(list, func(x, y rule) int { return cmp.Compare(rank(x.action), rank(y.action)) })
	return verdict{rules: list, action: fallback, narrow: narrow}
}

// rank orders actions as the kernel does: the lowest wins. KILL_PROCESS is
// negative, the others ascend.
func rank(ret uint32) int32 { return int32(ret & unix.SECCOMP_RET_ACTION_FULL) }

// shorten leaves out the conditions that always hold in a.
func (a *abi) shorten(conds []cond) []cond {
	var short []cond
	for _, c := range conds {
		mask := c.mask
		if a.narrow {
			mask &= 0xffffffff
		}
		if c.op == specs.OpMaskedEqual && mask == 0 {
			continue
		}
		short = append(short, c)
	}
	return short
}
