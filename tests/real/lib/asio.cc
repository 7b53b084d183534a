// asio accept|read: one thread blocks in Asio's synchronous call, another closes the socket under it once stdin says so.
#include <asio.hpp>
#include <iostream>
#include <string>
#include <thread>

using asio::ip::tcp;

static void wait_for_line()
{
    std::string line;
    std::getline(std::cin, line);
}

int main(int, char **argv)
{
    asio::io_context context;
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    tcp::socket client(context), server(context);
    asio::error_code error;

    if (std::string(argv[1]) == "accept") {
        std::thread thread([&] { acceptor.accept(server, error); });
        wait_for_line();
        acceptor.close();
        std::cout << "closed" << std::endl;
        thread.join();
    } else {
        client.connect(acceptor.local_endpoint());
        acceptor.accept(server);
        char byte;
        std::thread thread([&] { client.read_some(asio::buffer(&byte, 1), error); });
        wait_for_line();
        client.close();
        std::cout << "closed" << std::endl;
        thread.join();
    }
    std::cout << "woken: " << error.message() << std::endl;
}
