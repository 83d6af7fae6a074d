// Reads a rule set from standard input and writes the program that libseccomp
// makes of it to standard output. Test use only.
//   D ACTION             the default action (first line)
//   N                    leave the native architecture out
//   A TOKEN              add an architecture
//   R ACTION NAME COUNT (ARG OP A B)*COUNT
// Names and rules that libseccomp does not take are told on standard error.
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>

int main(void)
{
	scmp_filter_ctx ctx = NULL;
	char kind, name[64];
	while (scanf(" %c", &kind) == 1) {
		unsigned int v, count;
		int rc = 0;
		switch (kind) {
		case 'D':
			if (scanf("%u", &v) != 1 || !(ctx = seccomp_init(v)))
				return 2;
			break;
		case 'N':
			rc = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
			break;
		case 'A':
			if (scanf("%u", &v) != 1)
				return 2;
			rc = seccomp_arch_add(ctx, v);
			if (rc == -EEXIST)
				rc = 0;
			break;
		case 'R': {
			struct scmp_arg_cmp cmp[6];
			if (scanf("%u %63s %u", &v, name, &count) != 3 || count > 6)
				return 2;
			for (unsigned int i = 0; i < count; i++) {
				unsigned int arg, op;
				unsigned long long a, b;
				if (scanf("%u %u %llu %llu", &arg, &op, &a, &b) != 4)
					return 2;
				cmp[i] = (struct scmp_arg_cmp){arg, op, a, b};
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", name);
				break;
			}
			rc = seccomp_rule_add_array(ctx, v, nr, count, cmp);
			if (rc) {
				fprintf(stderr, "refused %s\n", name);
				rc = 0;
			}
			break;
		}
		default:
			return 2;
		}
		if (rc) {
			fprintf(stderr, "error %c %d\n", kind, rc);
			return 1;
		}
	}
	return seccomp_export_bpf(ctx, 1) ? 1 : 0;
}
