/* The floor under a connect: what accept(), epoll, read(), write() and close() alone cost, without a protocol, a runtime,
 * a store or a check of anything.
 *
 *   accept_floor CLIENTS HANDSHAKE_ANSWER COMMANDS_ANSWER
 *
 * Serves CLIENTS connections as they come. The first that a client sends, up to its empty line, is answered with the bytes
 * of the file HANDSHAKE_ANSWER, the next with those of COMMANDS_ANSWER; both were recorded from the server that is
 * compared. So the kernel does the same here as there: two reads, two writes, an entry in epoll. Prints its port, then
 * the CPU time a client in microseconds when all have their answers, and when all have gone that of their leaving.
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 1024, SOCKETS = 1 << 20 };

struct answer {
  char bytes[1 << 16];
  size_t size;
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void load(struct answer *answer, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path);
  answer->size = fread(answer->bytes, 1, sizeof answer->bytes, file);
  fclose(file);
}

static void print(double seconds, int clients) {
  printf("%.4f\n", seconds / clients * 1e6);
  fflush(stdout);
}

int main(int count, char **values) {
  static struct answer answers[2];
  static unsigned char answered[SOCKETS]; /* how many answers the client of a socket has */
  static struct epoll_event events[EVENTS];
  static char buffer[1 << 16];
  if (count != 4) {
    fprintf(stderr, "usage: accept_floor CLIENTS HANDSHAKE_ANSWER COMMANDS_ANSWER\n");
    return 2;
  }
  const int clients = atoi(values[1]), on = 1;
  load(&answers[0], values[2]);
  load(&answers[1], values[3]);

  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) fail("listen");
  if (getsockname(listener, (struct sockaddr *)&address, &size)) fail("getsockname");
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = listener};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &interest)) fail("epoll_ctl");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);

  const double start = cpu_seconds();
  double settled = 0;
  for (int complete = 0, gone = 0; gone < clients;) {
    const int ready = epoll_wait(poll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (fd >= SOCKETS) fail("too many sockets");
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          answered[fd] = 0;
          interest = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
          if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &interest)) fail("epoll_ctl");
        }
        continue;
      }
      const ssize_t got = read(fd, buffer, sizeof buffer);
      if (got <= 0) {
        close(fd);
        gone++;
        continue;
      }
      /* A handshake or a frame that came in two pieces: only the last one is answered. */
      if (answered[fd] > 1 || (answered[fd] == 0 && (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4)))) continue;
      const struct answer *answer = &answers[answered[fd]++];
      if (write(fd, answer->bytes, answer->size) != (ssize_t)answer->size) fail("write");
      if (answered[fd] == 2 && ++complete == clients) print((settled = cpu_seconds()) - start, clients);
    }
  }
  print(cpu_seconds() - settled, clients);
  return 0;
}
