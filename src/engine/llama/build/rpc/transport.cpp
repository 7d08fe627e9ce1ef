// ggml's RPC backend over connections that fireside makes, in place of ggml's own transport.cpp (project.cmake): ggml opens no
// socket, on neither side. It gets connections as descriptors over a Unix socket, whose number stands where ggml expects a port:
// "LABEL:NUMBER". What is said there (src/engine/llama/rpc.rs has the other end), one byte and one answer each:
//
//   client: C  connect       → one byte, with a descriptor, or without one if that failed
//           L  lost          → one byte; this connection is dead
//   server: R  ready         → one byte, with the next client's descriptor
//
// Where ggml's client would end the process, a lost connection goes on here with made-up answers: no memory for a buffer, zeros
// for a tensor. So every call returns, and fireside, which was told, uses nothing of what they computed.

#include "transport.h"

#include "ggml-rpc.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#    define MSG_NOSIGNAL 0 // the program ignores SIGPIPE
#endif

namespace {

// Commands of ggml's protocol that have an answer, as in rpc_cmd (ggml-rpc.cpp).
enum : uint8_t {
    ALLOC_BUFFER      = 0,
    GET_ALIGNMENT     = 1,
    GET_MAX_SIZE      = 2,
    BUFFER_GET_BASE   = 3,
    SET_TENSOR_HASH   = 7,
    GET_TENSOR        = 8,
    COPY_TENSOR       = 9,
    GET_DEVICE_MEMORY = 11,
    GET_ALLOC_SIZE    = 13,
    HELLO             = 14,
    DEVICE_COUNT      = 15,
};

bool send_all(int fd, const void * data, size_t size) {
    const char * from = static_cast<const char *>(data);
    while (size > 0) {
        const ssize_t sent = send(fd, from, size < MAX_CHUNK_SIZE ? size : MAX_CHUNK_SIZE, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            return false;
        }
        from += sent;
        size -= sent;
    }
    return true;
}

bool receive_all(int fd, void * data, size_t size) {
    char * to = static_cast<char *>(data);
    while (size > 0) {
        const ssize_t got = recv(fd, to, size < MAX_CHUNK_SIZE ? size : MAX_CHUNK_SIZE, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        to += got;
        size -= got;
    }
    return true;
}

// Says one byte to fireside and waits for the answer. The descriptor that came with it, or -1.
int ask(int control, char what) {
    static std::mutex one_at_a_time;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    if (!send_all(control, &what, 1)) {
        return -1;
    }
    char answer;
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
    iovec bytes = { &answer, 1 };
    msghdr message = {};
    message.msg_iov        = &bytes;
    message.msg_iovlen     = 1;
    message.msg_control    = space;
    message.msg_controllen = sizeof(space);
    ssize_t got;
    do {
        got = recvmsg(control, &message, 0);
    } while (got < 0 && errno == EINTR);
    const cmsghdr * header = got == 1 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
        return -1;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    fcntl(fd, F_SETFD, FD_CLOEXEC); // no program that fireside starts needs it
    return fd;
}

} // namespace

struct socket_t::impl {
    const int control;
    const int fd; // -1: lost from the start, or a server's own
    const bool client;
    bool lost = false;

    // The client's request that is being sent: its parts, its command, and the last 8 bytes of what follows.
    size_t   parts = 0;
    uint8_t  command = 0;
    uint64_t last = 0;
    bool     sized = false; // whether the size of the answer has been read

    impl(int control, int fd, bool client) : control(control), fd(fd), client(client) {
        if (client && fd < 0) {
            lose();
        }
    }

    ~impl() {
        if (fd >= 0) {
            shutdown(fd, SHUT_RDWR); // fireside may hold it, too
            close(fd);
        }
    }

    void lose() {
        if (!lost) {
            lost = true;
            ask(control, 'L');
            if (fd >= 0) {
                shutdown(fd, SHUT_RDWR);
            }
        }
    }

    bool sends(const void * data, size_t size) {
        if (!client) {
            return send_all(fd, data, size);
        }
        if (parts == 0) {
            memcpy(&command, data, 1);
            sized = false;
        }
        if (size >= sizeof(last)) {
            memcpy(&last, static_cast<const char *>(data) + size - sizeof(last), sizeof(last));
        }
        ++parts;
        if (!lost && !send_all(fd, data, size)) {
            lose();
        }
        return true;
    }

    bool receives(void * data, size_t size) {
        if (!client) {
            return receive_all(fd, data, size);
        }
        if (!sized) {
            sized = true;
            const uint64_t expected = answer_size();
            uint64_t answered = expected;
            if (!lost && (!receive_all(fd, &answered, sizeof(answered)) || answered != expected)) {
                lose();
            }
            memcpy(data, &expected, sizeof(expected));
            return true;
        }
        if (!lost && !receive_all(fd, data, size)) {
            lose();
        }
        if (lost) {
            make_up(static_cast<uint8_t *>(data), size);
        }
        return true;
    }

    uint64_t answer_size() const {
        switch (command) {
            case SET_TENSOR_HASH:
            case COPY_TENSOR:
                return 1;
            case DEVICE_COUNT:
                return 4;
            case ALLOC_BUFFER:
            case GET_DEVICE_MEMORY:
                return 16;
            case HELLO:
                return 4 + RPC_CONN_CAPS_SIZE;
            case GET_TENSOR:
                return last;
            default:
                return 8;
        }
    }

    void make_up(uint8_t * answer, size_t size) const {
        memset(answer, 0, size);
        switch (command) {
            case HELLO:
                answer[0] = RPC_PROTO_MAJOR_VERSION;
                answer[1] = RPC_PROTO_MINOR_VERSION;
                break;
            case SET_TENSOR_HASH: // it is there: nothing more is sent
            case COPY_TENSOR:
                answer[0] = 1;
                break;
            case GET_MAX_SIZE:
                memset(answer, 0x7f, size);
                break;
            case GET_ALIGNMENT:
            case BUFFER_GET_BASE: // anything but null, and aligned
                answer[0] = 128;
                break;
        }
    }
};

socket_t::socket_t(std::unique_ptr<impl> p) : pimpl(std::move(p)) {}

socket_t::~socket_t() = default;

bool socket_t::send_data(const void * data, size_t size) {
    return pimpl->sends(data, size);
}

bool socket_t::recv_data(void * data, size_t size) {
    return pimpl->receives(data, size);
}

bool socket_t::flush() {
    pimpl->parts = 0; // ggml calls this at the end of every message
    return true;
}

void socket_t::get_caps(uint8_t * local_caps) {
    memset(local_caps, 0, RPC_CONN_CAPS_SIZE); // TCP only
}

void socket_t::update_caps(const uint8_t *) {}

socket_ptr socket_t::create_server(const char *, int port) {
    return socket_ptr(new socket_t(std::make_unique<impl>(port, -1, false)));
}

socket_ptr socket_t::accept() {
    const int fd = ask(pimpl->control, 'R');
    return fd < 0 ? nullptr : socket_ptr(new socket_t(std::make_unique<impl>(pimpl->control, fd, false)));
}

socket_ptr socket_t::connect(const char *, int port) {
    return socket_ptr(new socket_t(std::make_unique<impl>(port, ask(port, 'C'), true)));
}

bool rpc_transport_init() {
    return true;
}

void rpc_transport_shutdown() {}
