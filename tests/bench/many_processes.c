/* Many processes that cost almost nothing: they share one memory. Some are pods of four in a network namespace each.
 *
 * usage: many_processes PROCESSES PODS; prints a line when they run, and again after each line "N" on its standard
 * input, for which it replaces N of those that are in no pod. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK = 8192, OF_POD = 4 };

static int wait_forever(void *unused) {
    (void)unused;
    for (;;)
        pause();
}

static int start(int (*run)(void *), char *stack, int flags, void *argument) {
    int pid = clone(run, stack + STACK, CLONE_VM | SIGCHLD | flags, argument);
    if (pid < 0) {
        perror("clone");
        _exit(1);
    }
    return pid;
}

static int run_pod(void *stacks) {
    for (int i = 1; i < OF_POD; i++)
        start(wait_forever, (char *)stacks + (i - 1) * STACK, 0, NULL);
    return wait_forever(NULL);
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    int all = atoi(words[1]), pods = atoi(words[2]), others = all - pods * OF_POD, oldest = 0, wanted;
    int *pids = calloc(others, sizeof *pids);
    char *stacks = calloc(all, STACK), *own = stacks + (size_t)pods * OF_POD * STACK;
    if (!pids || !stacks)
        return 1;
    for (int i = 0; i < pods; i++) {
        char *first = stacks + (size_t)i * OF_POD * STACK;
        start(run_pod, first, CLONE_NEWNET, first + STACK);
    }
    for (int i = 0; i < others; i++)
        pids[i] = start(wait_forever, own + (size_t)i * STACK, 0, NULL);
    for (;;) {
        puts("ready");
        fflush(stdout);
        if (scanf("%d", &wanted) != 1)
            return 0;
        for (; wanted > 0; wanted--, oldest = (oldest + 1) % others) {
            kill(pids[oldest], SIGKILL);
            waitpid(pids[oldest], NULL, 0);
            pids[oldest] = start(wait_forever, own + (size_t)oldest * STACK, 0, NULL);
        }
    }
}
