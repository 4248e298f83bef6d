/* The floor under a broadcast: what send() alone costs, without a protocol, a runtime or a publisher.
 *
 *   send_floor READERS BYTES ROUNDS
 *
 * Accepts READERS connections. Then, ROUNDS times: waits for one byte on the first of them, which says that all readers
 * have the frame before, and sends BYTES to each. So it is paced like a server that gets one publication at a time, and
 * meets sockets whose readers have gone to sleep, which costs more than sending to readers that are awake.
 * Prints its port, at last the CPU time per delivery in microseconds. The first round warms up and does not count.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int count, char **values) {
  if (count != 4) {
    fprintf(stderr, "usage: send_floor READERS BYTES ROUNDS\n");
    return 2;
  }
  const int readers = atoi(values[1]), rounds = atoi(values[3]), on = 1;
  const size_t bytes = (size_t)atol(values[2]);
  int *sockets = malloc(sizeof(int) * (size_t)readers);
  char *frame = malloc(bytes), trigger;
  if (!sockets || !frame) fail("malloc");
  memset(frame, 'x', bytes);

  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) fail("listen");
  if (getsockname(listener, (struct sockaddr *)&address, &size)) fail("getsockname");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (int i = 0; i < readers; i++) {
    if ((sockets[i] = accept(listener, NULL, NULL)) < 0) fail("accept");
    setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }

  double start = 0;
  for (int round = 0; round <= rounds; round++) {
    if (recv(sockets[0], &trigger, 1, 0) != 1) fail("recv");
    if (round == 1) start = cpu_seconds();
    for (int i = 0; i < readers; i++)
      if (send(sockets[i], frame, bytes, MSG_DONTWAIT) != (ssize_t)bytes) fail("send");
  }
  printf("%.4f\n", (cpu_seconds() - start) / rounds / readers * 1e6);
  fflush(stdout);
  recv(sockets[0], &trigger, 1, 0); /* until the readers have read and left: an exit would close under them */
  return 0;
}
