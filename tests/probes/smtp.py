"""A mail server that does nothing but STARTTLS: smtp.py PORT BUNDLE"""

import socket
import ssl
import sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    try:
        connection.sendall(b"220 mail.test ESMTP\r\n")
        assert connection.recv(1024).startswith(b"EHLO ")
        connection.sendall(b"250-mail.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
        assert connection.recv(1024) == b"STARTTLS\r\n"
        connection.sendall(b"220 2.0.0 Ready\r\n")
        context.wrap_socket(connection, server_side=True).close()
    except (AssertionError, OSError):
        pass
    finally:
        connection.close()
